// The page: pictures come in, requests go out one after another, and results are shown.

import { RequestError, detect, hooks, listModels, makePicture } from "./api.js";
import { Camera } from "./camera.js";
import { fillFaces, makeListbox, mark, showFaces } from "./lists.js";
import { COLORS, countFrom, firstFaces } from "./paint.js";
import { Pane, facesOf } from "./pane.js";
import { Picture, filesOf } from "./pictures.js";
import { saveAnnotated, saveCrops, saveJson, saveLines, saveRedacted } from "./save.js";
import { View } from "./view.js";

const LOW = 0.05; // scores from which faces are requested; sliders choose among them
const get = (id) => document.getElementById(id);

const pictures = [];
const panes = [];
let picture = null; // the one that is shown
let camera = null;
let working = false;
let drawing = null;
let added = 0;
let facesFrom = null;

const page = {
  models: [],
  view: new View(() => change()),
  show: { scores: true, points: true, numbers: false, mesh: false, chosen: null },
  active: null,
  activePair: () => page.active,
  floor: (pair) => (hasMesh(pair) ? modelOf(pair).threshold / 2 : LOW),
  paired(pair, model) {
    if (model) {
      Object.assign(pair, { model: model.name, protocol: model.protocol, least: model.threshold });
    }
    pair.least = Math.max(pair.least, page.floor(pair));
    page.show.chosen = null;
    work();
  },
  closed(pair) {
    const at = panes.findIndex((pane) => pane.pair === pair);
    panes.splice(at, 1)[0].root.remove();
    if (page.active === pair) page.active = panes[0].pair;
    change();
    get("compare").focus();
  },
  activated(pair) {
    if (page.active === pair) return;
    page.active = pair;
    page.show.chosen = null;
    change();
  },
  scored: () => change(),
  picked(pair, face) {
    page.active = pair;
    page.show.chosen = face;
    change();
  },
  stepped(by) {
    const next = pictures[pictures.indexOf(picture) + by];
    if (next && !camera) select(next);
  },
  retried(pair) {
    picture.results.delete(keyOf(pair));
    work();
  },
};

const modelOf = (pair) => page.models.find(({ name }) => name === pair.model);
const hasMesh = (pair) => page.show.mesh && modelOf(pair).mesh;
const keyOf = (pair) => [pair.model, pair.protocol, hasMesh(pair)].join(" ");
const resultOf = (shown, pair) => shown?.results.get(keyOf(pair)) ?? null;
const activePane = () => panes.find(({ pair }) => pair === page.active);

function queryOf(pair, least = page.floor(pair)) {
  const query = { model: pair.model, protocol: pair.protocol, score: least };
  return hasMesh(pair) ? { ...query, mesh: true } : query;
}

// Pictures come in.

function add(files) {
  if (!files.length) return;
  const before = pictures.length;
  for (const file of files) {
    const name = file.name || `pasted-${++added}.png`;
    const one = new Picture(file, name);
    pictures.push(one);
    get("pictures").append(one.option);
    one.makeThumb().then(() => change());
  }
  say(`${files.length === 1 ? "1 picture" : `${files.length} pictures`} added`);
  select(pictures[before]);
}

async function select(next) {
  closeCamera();
  picture = next;
  page.show.chosen = null;
  page.view.fit();
  if (picture) {
    picture.option.scrollIntoView({ block: "nearest", inline: "nearest" });
    work();
    await picture.load();
  }
  change();
}

function remove(one) {
  if (!one) return;
  const at = pictures.indexOf(one);
  pictures.splice(at, 1);
  one.option.remove();
  one.stop?.abort();
  one.unload();
  const next = pictures[Math.min(at, pictures.length - 1)] ?? null;
  if (one !== picture) return change();
  select(next);
  (next?.option ?? get("choose")).focus();
}

// Requests go out, one after another, so that the times that are shown do not disturb each other.

function nextJob() {
  for (const one of picture && !camera ? [picture, ...pictures] : pictures) {
    for (const { pair } of panes) if (!one.results.has(keyOf(pair))) return [one, pair];
  }
  return null;
}

async function work() {
  change();
  if (working || camera) return;
  working = true;
  for (let job; !camera && (job = nextJob()); ) {
    const [one, pair] = job;
    one.stop = new AbortController();
    const done = await request(one, pair, one.stop.signal);
    if (one === picture) say(`${one.name}: ${done}`);
    change();
  }
  working = false;
  const failed = pictures.filter(isFailed).length;
  if (pictures.length > 1 && !nextJob()) {
    say(`${pictures.length - failed} pictures done${failed ? `, ${failed} failed` : ""}`);
  }
  change();
}

/** Put the result of a picture by a pair among its results; gives a text that says what it is. */
async function request(one, pair, signal) {
  const { model } = pair;
  const key = keyOf(pair);
  const set = (result) => one.results.set(key, result);
  set({ state: "running", text: "Finding faces …" });
  change();
  const waiting = (seconds) => {
    set({ state: "running", text: `The service is busy: again in ${Math.ceil(seconds)} s` });
    change();
  };
  try {
    const result = await detect(one.blob, one.name, queryOf(pair), { signal, waiting });
    set({ state: "done", ...result });
    const least = panes.find((pane) => pane.pair === pair)?.pair.least ?? LOW;
    const count = result.line.scores.filter((score) => score >= least).length;
    return `${model} found ${facesOf(count)} from a score of ${least.toFixed(2)} on`;
  } catch (error) {
    if (!(error instanceof RequestError) && !signal?.aborted) console.warn(error);
    set({ state: "failed", text: error.message });
    return `${model} failed: ${error.message}`;
  }
}

hooks.needToken = (refused) => {
  const form = get("token");
  form.hidden = false;
  get("token-note").textContent = refused
    ? "The service did not take this token."
    : "It is kept until this page is closed.";
  get("token-field").focus();
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      form.hidden = true;
      resolve(get("token-field").value);
    };
  });
};

// The camera.

async function toggleCamera() {
  if (camera) return select(pictures.at(-1) ?? null);
  get("server").textContent = "";
  try {
    camera = await Camera.open();
  } catch (error) {
    get("server").textContent = error.message;
    return say(error.message);
  }
  page.view.fit();
  await follow(camera);
}

/** Show frame after frame; the next one is taken once all pairs have answered for the last. */
async function follow(own) {
  let faces = null;
  let spoken = 0;
  let pace = null;
  while (camera === own && own.on) {
    const started = performance.now();
    const frame = new Picture((await own.frame().then((taken) => (own.taken = taken))).blob, "Camera");
    frame.image = own.taken.image;
    for (const { pair } of [...panes]) await request(frame, pair);
    if (camera !== own) return;
    picture?.live && picture.image.close();
    picture = Object.assign(frame, { live: true });
    const span = performance.now() - started;
    pace = pace === null ? span : 0.9 * pace + 0.1 * span;
    frame.pace = `${(1000 / pace).toFixed(1)} frames a second`;
    change();
    const count = panes[0].count;
    if (count !== faces && started - spoken > 2500) {
      [faces, spoken] = [count, started];
      say(`Camera: ${facesOf(count)}`);
    }
    const failed = panes.some(({ pair }) => resultOf(frame, pair)?.state === "failed");
    await new Promise((resolve) => setTimeout(resolve, failed ? 1500 : 0));
    await new Promise(requestAnimationFrame); // none while the page is hidden
  }
  if (camera === own) select(pictures.at(-1) ?? null); // it was pulled out
}

function closeCamera() {
  camera?.stop();
  camera = null;
}

// Results are shown.

function change() {
  drawing ??= requestAnimationFrame(() => {
    drawing = null;
    render();
  });
}

const isDone = (one) => panes.every(({ pair }) => ["done", "failed"].includes(resultOf(one, pair)?.state));
const isFailed = (one) => panes.some(({ pair }) => resultOf(one, pair)?.state === "failed");

function render() {
  const empty = !picture;
  get("welcome").hidden = !empty;
  get("work").hidden = empty;
  get("camera").setAttribute("aria-pressed", String(Boolean(camera)));
  get("camera").lastElementChild.textContent = camera ? "Stop camera" : "Camera";
  document.title = picture ? `${picture.name} – facefind` : "facefind";
  if (empty) return;
  for (const pane of panes) {
    pane.update(picture, resultOf(picture, pane.pair), pane.pair === page.active, panes.length > 1);
  }
  get("panes").dataset.count = panes.length;
  renderTools();
  renderFaces();
  renderPictures();
}

function renderTools() {
  const { image } = picture;
  const size = image ? `${image.width} × ${image.height}` : "";
  get("title").textContent = picture.name;
  get("size").textContent = picture.live ? picture.pace : size;
  const sizes = panes[0].sizes();
  const scale = sizes ? page.view.place(sizes.picture, sizes.pane).scale : 1;
  get("zoom-fit").textContent = `${Math.round(100 * scale)} %`;
  get("zoom-fit").setAttribute("aria-label", `Fit the picture, it is at ${Math.round(100 * scale)} %`);
  get("compare").disabled = panes.length === COLORS.length;
  get("keep").hidden = !picture.live;
  for (const button of document.querySelectorAll("[data-show]")) {
    button.setAttribute("aria-pressed", String(page.show[button.dataset.show]));
    if (button.dataset.show === "mesh") button.hidden = !panes.some(({ pair }) => modelOf(pair).mesh);
  }
}

function renderFaces() {
  const { pair, line, count } = activePane();
  const list = get("faces");
  document.querySelector("aside .swatch").style.background = pair.color;
  get("faces-title").textContent = line ? facesOf(count).replace(/^./, (c) => c.toUpperCase()) : "Faces";
  const soon = picture.live && performance.now() - (facesFrom?.at ?? 0) < 500;
  if (!soon && (facesFrom?.line !== line || facesFrom?.image !== picture.image)) {
    facesFrom = { line, image: picture.image, at: performance.now() };
    if (line) fillFaces(list, line, picture.image);
    else list.replaceChildren();
  }
  const more = line ? showFaces(list, count) : 0;
  get("faces-note").textContent = more ? `and ${more} more` : "";
  mark(list, page.show.chosen === null ? null : list.children[page.show.chosen]);
  for (const button of document.querySelectorAll("[data-save]")) button.disabled = !line;
  get("method").disabled = !line;
}

function renderPictures() {
  const done = pictures.filter(isDone).length;
  const failed = pictures.filter(isFailed).length;
  for (const one of pictures) {
    const results = panes.map(({ pair }) => resultOf(one, pair));
    const state = isFailed(one) ? "failed" : isDone(one) ? "done" : results.some(Boolean) ? "running" : "";
    const reason = results.find((result) => result?.state === "failed")?.text;
    const counts = panes.map(({ pair }, index) => {
      return results[index]?.line?.scores.filter((score) => score >= pair.least).length ?? "–";
    });
    one.option.dataset.state = state;
    one.option.querySelector(".state").textContent = { failed: "!", done: counts.join(" / ") }[state] ?? "…";
    const spoken = { failed: `failed: ${reason}`, done: `faces: ${counts.join(", ")}` }[state] ?? "waiting";
    one.option.setAttribute("aria-label", `${one.name}, ${spoken}`);
    one.option.title = reason ? `${one.name}: ${reason}` : one.name;
  }
  mark(get("pictures"), picture.live ? null : picture.option);
  const some = `${done} of ${pictures.length} done${failed ? `, ${failed} failed` : ""}`;
  get("progress").textContent = pictures.length > 1 ? some : "";
  get("bar").hidden = pictures.length < 2 || done === pictures.length;
  get("bar").max = Math.max(1, pictures.length);
  get("bar").value = done;
  get("remove").disabled = Boolean(picture.live);
  get("strip").hidden = !pictures.length;
}

function say(text) {
  get("live").textContent = text;
}

// Buttons, keys, files.

const savers = {
  annotated: (pane) => saveAnnotated(picture, pane.shown(), pane.pair.color, page.show),
  crops: (pane) => saveCrops(picture, pane.shown()),
  json: (pane) => saveJson(picture, pane.shown(), pane.pair),
  lines(pane) {
    const least = (line) => line.scores.filter((score) => score >= pane.pair.least).length;
    const lines = (picture.live ? [picture] : pictures).map((one) => resultOf(one, pane.pair)?.line);
    saveLines(lines.filter(Boolean).map((line) => firstFaces(line, least(line))));
  },
  async redacted({ pair }) {
    const { mesh, ...query } = queryOf(pair, pair.least);
    saveRedacted(picture, await makePicture("v1/redact", picture.blob, { ...query, with: get("method").value }));
  },
};

async function save(button) {
  const note = get("save-note");
  note.textContent = "";
  button.disabled = true;
  try {
    await savers[button.dataset.save](activePane());
  } catch (error) {
    note.textContent = error.message;
  }
  button.disabled = false;
}

function addPane(model) {
  const color = COLORS.find((one) => !panes.some(({ pair }) => pair.color === one));
  const pair = { model: model.name, protocol: model.protocol, least: model.threshold, color };
  page.active = pair;
  page.show.chosen = null;
  const pane = new Pane(pair, page);
  panes.push(pane);
  get("panes").append(pane.root);
  return pane;
}

function compare() {
  const other = page.models.find(({ name }) => !panes.some(({ pair }) => pair.model === name));
  const pane = addPane(other ?? page.models[0]);
  work();
  pane.models.focus();
}

function zoom(factor) {
  const sizes = panes[0].sizes();
  if (sizes) page.view.zoomBy(factor, sizes.picture, sizes.pane);
}

function showFace(option) {
  const sizes = activePane().sizes();
  const { line } = activePane();
  if (!sizes || !option) return;
  const scale = sizes.picture.width / line.width;
  page.view.showBox(line.boxes[option.dataset.face].map((value) => value * scale), sizes.picture, sizes.pane);
}

function listen() {
  const on = (id, act) => get(id).addEventListener("click", act);
  for (const id of ["add", "choose"]) on(id, () => get("files").click());
  for (const id of ["camera", "look"]) on(id, toggleCamera);
  on("zoom-in", () => zoom(1.4));
  on("zoom-out", () => zoom(1 / 1.4));
  on("zoom-fit", () => page.view.fit());
  on("compare", compare);
  on("remove", () => remove(picture));
  on("keep", () => {
    const kept = new File([picture.blob], `camera-${++added}.jpg`, { type: "image/jpeg" });
    add([kept]);
  });
  get("files").addEventListener("change", (event) => {
    add([...event.target.files]);
    event.target.value = "";
  });
  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => save(button));
  }
  for (const button of document.querySelectorAll("[data-show]")) {
    button.addEventListener("click", () => {
      const { show } = button.dataset;
      page.show[show] = !page.show[show];
      for (const { pair } of panes) pair.least = Math.max(pair.least, page.floor(pair));
      work();
    });
  }
  makeListbox(get("pictures"), {
    choose: (option) => select(pictures.find((one) => one.option === option)),
    remove: (option) => remove(pictures.find((one) => one.option === option)),
  });
  makeListbox(get("faces"), {
    choose(option) {
      page.show.chosen = Number(option.dataset.face);
      change();
    },
    open: showFace,
  });
  let depth = 0;
  const over = (by) => {
    depth = by ? Math.max(0, depth + by) : 0;
    document.body.classList.toggle("dropping", depth > 0);
  };
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => holdsFiles(event) && over(1));
  addEventListener("dragleave", (event) => holdsFiles(event) && over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    event.preventDefault();
    over(0);
    add(await filesOf(event.dataTransfer));
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    add(files.map((file) => new File([file], pastedName(file), { type: file.type })));
  });
}

/** Browsers call every pasted picture image.png. */
function pastedName(file) {
  return /^image\.\w+$/.test(file.name) ? `pasted-${++added}.${file.name.split(".")[1]}` : file.name;
}

async function start() {
  listen();
  try {
    const answer = await listModels();
    page.models = answer.models;
    addPane(answer.models.find(({ name }) => name === answer.default) ?? answer.models[0]);
    work();
  } catch (error) {
    get("server").textContent = error.message;
    say(error.message);
  }
}

start();
