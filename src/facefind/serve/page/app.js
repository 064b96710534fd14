// The page: pictures come in, buttons and keys do what they say, and what is known is shown.

import { hooks, send } from "./api.js";
import { openCamera } from "./camera.js";
import { gather, readResults } from "./files.js";
import { makeListbox, renderFaces } from "./lists.js";
import { COLORS } from "./paint.js";
import { Pane } from "./pane.js";
import { renderPictures } from "./pictures.js";
import { follow, work } from "./requests.js";
import { savers } from "./save.js";
import { change, get, page, say } from "./state.js";

const { pictures, panes, view } = page;
const all = (selector) => document.querySelectorAll(selector);

let kept = 0;
let opening = false;

// Pictures come in, one is shown, some go.

async function add(given) {
	const { pictures: added, results, lost } = await gather(given);
	const problems = lost.map((path) => `${path} cannot be read.`);
	for (const file of results) await readResults(file).then(showResults).catch(({ message }) => problems.push(message));
	if (!added.length && !results.length) problems.push("There are no pictures.");
	complain(problems.join(" "));
	if (!added.length) return;
	get("pictures").append(...added.map((picture) => picture.makeOption()));
	pictures.push(...added);
	say(`${added.length === 1 ? "1 picture" : `${added.length} pictures`} added`);
	const unseen = get("welcome").contains(document.activeElement);
	select(added[0]);
	page.render();
	if (unseen) added[0].option.focus();
}

/** Let a file of results be chosen as models are, and choose it. */
function showResults(file) {
	page.models.push(file);
	for (const { parts } of panes) parts.models.append(new Option(file.name));
	page.active.useModel(file);
	page.show.ids ||= file.ids;
	work();
}

async function select(picture) {
	page.camera?.stop();
	page.camera = null;
	if (page.picture !== picture) page.picture?.unload();
	page.picture = picture;
	page.chosen = null;
	view.fit();
	work();
	picture?.option.scrollIntoView({ block: "nearest", inline: "nearest" });
	await picture?.load();
	change();
}

function step(by) {
	const next = pictures[pictures.indexOf(page.picture) + by];
	if (next && !page.camera) select(next);
}

function remove(picture) {
	const at = pictures.indexOf(picture);
	pictures.splice(at, 1);
	picture.stop.abort();
	picture.option.remove();
	const next = pictures[at] ?? pictures.at(-1);
	select(next);
	page.render();
	(next?.option ?? get("choose")).focus();
}

async function toggleCamera() {
	if (page.camera) return select(pictures.at(-1));
	if (opening) return;
	opening = true;
	complain("");
	page.camera = await openCamera().catch((error) => complain(error.message));
	opening = false;
	if (!page.camera) return;
	view.fit();
	get("camera").focus();
	const { camera } = page;
	await follow(camera);
	if (page.camera === camera) select(pictures.at(-1)); // it was pulled out
}

function complain(text) {
	get("message").textContent = text;
	say(text);
}

// Panes.

function addPane(model) {
	const color = COLORS.find((one) => panes.every((pane) => pane.color !== one));
	const pane = new Pane(model, color, { work, step, close: closePane });
	panes.push(pane);
	get("panes").append(pane.root);
	pane.activate(null);
	work();
	return pane;
}

function closePane(pane) {
	panes.splice(panes.indexOf(pane), 1);
	pane.root.remove();
	panes[0].activate(null);
	get("compare").focus();
}

// What is known is shown.

page.render = () => {
	const { picture, camera, active } = page;
	const ready = Boolean(picture && active);
	get("welcome").hidden = ready;
	get("work").hidden = !ready;
	get("camera").className = camera ? "primary" : "";
	get("camera").textContent = camera ? "Stop camera" : "Camera";
	document.title = picture ? `${picture.name} – facefind` : "facefind";
	if (!ready) return;
	for (const pane of panes) pane.render();
	const { image, live } = picture;
	get("title").textContent = picture.name;
	get("size").textContent = live ? picture.pace : image ? `${image.width} × ${image.height}` : "";
	const sizes = panes[0].sizes();
	const percent = sizes ? Math.round(100 * view.place(sizes).scale) : 100;
	get("zoom-fit").textContent = `${percent} %`;
	get("zoom-fit").ariaLabel = `Fit the picture, now at ${percent} %`;
	get("compare").disabled = panes.length === COLORS.length;
	get("keep").hidden = !live;
	for (const button of all("[data-show]")) button.ariaPressed = page.show[button.dataset.show];
	get("mesh").hidden = !panes.some((pane) => pane.model.mesh);
	get("swatch").style.background = active.color;
	for (const button of all("[data-save]")) button.disabled = !active.shown() || !image;
	if (active.model.lineOf) get("redacted").disabled = true; // the service has no such model
	renderFaces();
	renderPictures();
};

// Buttons, keys, files.

function zoom(factor) {
	const sizes = panes[0].sizes();
	if (sizes) view.zoomBy(factor, sizes);
}

function showFace({ dataset }) {
	const sizes = page.active.sizes();
	const { boxes, width } = page.active.shown();
	const box = boxes[dataset.face].map((value) => (value * sizes.picture.width) / width);
	view.showBox(box, sizes);
}

async function save({ target: button }) {
	get("save-note").textContent = "";
	button.disabled = true;
	try {
		await savers[button.dataset.save](page.picture, page.active);
	} catch (error) {
		get("save-note").textContent = error.message;
	}
	button.disabled = false;
	button.focus();
}

hooks.needToken = (refused) => {
	const form = get("token");
	form.hidden = false;
	complain(refused ? "The service did not take that one." : "");
	get("token-field").focus();
	return new Promise((resolve) => {
		form.onsubmit = (event) => {
			event.preventDefault();
			form.hidden = true;
			resolve(get("token-field").value);
		};
	});
};

const clicks = {
	add: () => choose(false),
	choose: () => choose(false),
	folder: () => choose(true),
	camera: toggleCamera,
	look: toggleCamera,
	"zoom-in": () => zoom(1.4),
	"zoom-out": () => zoom(1 / 1.4),
	"zoom-fit": () => view.fit(),
	compare() {
		const { models } = page;
		const other = models.find((model) => panes.every((pane) => pane.model !== model));
		addPane(other ?? models[0]).parts.models.focus();
	},
	keep: () => add([new File([page.picture.blob], `camera-${++kept}.jpg`, { type: "image/jpeg" })]),
	remove: () => remove(page.picture),
};

for (const [id, act] of Object.entries(clicks)) get(id).onclick = act;
for (const button of all("[data-save]")) button.onclick = save;
for (const button of all("[data-show]")) {
	button.onclick = () => {
		page.show[button.dataset.show] = !page.show[button.dataset.show];
		work();
	};
}

makeListbox(get("pictures"), { choose: ({ picture }) => select(picture), remove: ({ picture }) => remove(picture) });
makeListbox(get("faces"), { choose: ({ dataset }) => page.active.activate(Number(dataset.face)), open: showFace });

function choose(folder) {
	get("files").webkitdirectory = folder;
	get("files").click();
}
get("files").onchange = ({ target }) => {
	add([...target.files]);
	target.value = "";
};

const drag = (event) => {
	event.preventDefault();
	document.body.classList.toggle("dropping", event.type === "dragover");
};
document.ondragover = document.ondragleave = drag;
document.ondrop = (event) => {
	drag(event);
	const items = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry() ?? item.getAsFile());
	add(items.filter(Boolean));
};
document.onpaste = ({ clipboardData }) => {
	if (clipboardData.files.length) add([...clipboardData.files]);
};

while (!panes.length) {
	try {
		const { models, default: name } = await (await send("v1/models")).json();
		page.models = models;
		addPane(models.find((model) => model.name === name));
		complain("");
	} catch (error) {
		complain(error.message);
		await new Promise((resolve) => setTimeout(resolve, 3000));
	}
}
