// One model and protocol on the picture: what it found, from which score on, in which time.

import { countFrom, firstFaces, paintFaces } from "./paint.js";
import { attach } from "./view.js";

const BARS = 48;
const template = document.getElementById("pane");

/** "no faces", "1 face", "3 faces". */
export function facesOf(count) {
  return count === 1 ? "1 face" : `${count || "no"} faces`;
}

/** "38 ms", "1.6 s". */
export function timeOf(ms) {
  return ms < 1000 ? `${Math.max(1, Math.round(ms))} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/**
 * A pane. `pair` is {model, protocol, least, color}; `page` has the models, the view, what to show
 * (`show`), the least score that is requested (`floor(pair)`), and what a pane can lead to:
 * `paired`, `closed`, `activated`, `scored`, `picked`, `stepped`, `retried`.
 */
export class Pane {
  constructor(pair, page) {
    this.pair = pair;
    this.page = page;
    this.picture = null;
    this.result = null;
    this.root = template.content.firstElementChild.cloneNode(true);
    const part = (selector) => this.root.querySelector(selector);
    this.frame = part(".frame");
    this.canvas = part("canvas");
    this.note = part(".note span");
    this.again = part(".note button");
    this.slider = part("input");
    this.least = part("output");
    this.found = part(".found strong");
    this.time = part(".found span");
    this.models = part(".model");
    this.protocols = part(".protocol");
    this.close = part(".close");
    this.bars = this.root.querySelectorAll("path");
    part(".swatch").style.background = pair.color;
    this.fillModels();
    this.listen();
  }

  /** Show a picture ({name, image}, or null) with a result of this pane's pair. */
  update(picture, result, active, many) {
    this.picture = picture;
    this.result = result;
    this.root.classList.toggle("active", active && many);
    this.root.classList.toggle("busy", result?.state === "running");
    this.close.hidden = !many;
    this.updateText();
    this.draw();
  }

  /** How many faces are shown. */
  get count() {
    return this.line ? countFrom(this.line, this.pair.least) : 0;
  }

  /** The result's line, once there is one. */
  get line() {
    return this.result?.line ?? null;
  }

  fillModels() {
    const { models } = this.page;
    this.models.replaceChildren(...models.map(({ name }) => new Option(name, name)));
    this.models.value = this.pair.model;
    const model = models.find(({ name }) => name === this.pair.model);
    this.protocols.replaceChildren(...model.protocols.map((name) => new Option(name, name)));
    this.protocols.value = this.pair.protocol;
  }

  listen() {
    const { page, pair } = this;
    this.models.addEventListener("change", () => {
      page.paired(pair, page.models.find(({ name }) => name === this.models.value));
      this.fillModels();
    });
    this.protocols.addEventListener("change", () => {
      pair.protocol = this.protocols.value;
      page.paired(pair);
    });
    this.close.addEventListener("click", () => page.closed(pair));
    this.again.addEventListener("click", () => page.retried(pair));
    this.slider.addEventListener("input", () => {
      pair.least = Number(this.slider.value);
      page.scored(pair);
    });
    this.root.addEventListener("focusin", () => page.activated(pair));
    this.root.addEventListener("pointerdown", () => page.activated(pair));
    attach(this.frame, page.view, () => this.sizes(), {
      pick: (x, y) => page.picked(pair, this.faceAt(x, y)),
      step: page.stepped,
    });
    new ResizeObserver(() => this.draw()).observe(this.frame);
  }

  sizes() {
    if (!this.picture?.image) return null;
    return { picture: this.picture.image, pane: this.size() };
  }

  size() {
    return { width: this.frame.clientWidth, height: this.frame.clientHeight };
  }

  updateText() {
    const { pair, picture, result, line, count } = this;
    const floor = this.page.floor(pair);
    this.slider.min = floor;
    this.slider.value = pair.least;
    const least = pair.least.toFixed(2);
    this.least.textContent = `≥ ${least}`;
    this.slider.setAttribute("aria-label", `Least score of ${pair.model}`);
    this.slider.setAttribute("aria-valuetext", line ? `${least}, ${facesOf(count)}` : least);
    this.found.textContent = line ? facesOf(count) : "–";
    this.time.textContent = line ? timeOf(result.ms) : "";
    this.note.textContent = line && result.state !== "running" ? "" : (result?.text ?? "");
    this.again.hidden = result?.state !== "failed";
    this.root.classList.toggle("failed", result?.state === "failed");
    const by = `${pair.model}, ${pair.protocol}`;
    this.frame.setAttribute("aria-label", `${picture?.name ?? "No picture"} by ${by}`);
    this.canvas.setAttribute("aria-label", line ? `${picture.name}: ${facesOf(count)}` : "");
    this.updateBars(floor);
  }

  /** A histogram of the scores behind the slider; what is below the least score is gray. */
  updateBars(floor) {
    const at = (score) => (score - floor) / (1 - floor);
    if (this.barsOf !== this.line) {
      this.barsOf = this.line;
      const bars = new Array(BARS).fill(0);
      for (const score of this.line?.scores ?? []) {
        bars[Math.max(0, Math.min(BARS - 1, Math.floor(at(score) * BARS)))] += 1;
      }
      const most = Math.sqrt(Math.max(1, ...bars));
      const step = 100 / BARS;
      const path = bars.map((bar, index) => {
        const height = bar && Math.max(2, (18 * Math.sqrt(bar)) / most);
        return bar ? `M${index * step} 20v${-height}h${step * 0.7}v${height}z` : "";
      });
      for (const drawn of this.bars) drawn.setAttribute("d", path.join(""));
    }
    this.bars[1].style.clipPath = `inset(0 0 0 ${100 * at(this.pair.least)}%)`;
  }

  draw() {
    const { width, height } = this.size();
    if (!width || !height) return;
    const ratio = window.devicePixelRatio || 1;
    const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== across) this.canvas.width = across;
    if (this.canvas.height !== down) this.canvas.height = down;
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const { view, show } = this.page;
    this.frame.classList.toggle("zoomed", view.zoom > 1);
    if (!this.picture?.image) return;
    const { image } = this.picture;
    const place = view.place(image, { width, height });
    context.imageSmoothingEnabled = place.scale < 4;
    context.imageSmoothingQuality = "high";
    context.drawImage(image, place.left, place.top, image.width * place.scale, image.height * place.scale);
    if (!this.line) return;
    const chosen = this.page.activePair() === this.pair ? show.chosen : null;
    paintFaces(context, this.shown(), this.linePlace(place), 2, this.pair.color, { ...show, chosen });
  }

  /** The faces from the least score on, as a line of results. */
  shown() {
    return firstFaces(this.line, this.count);
  }

  /** `place` in the pixels of the line, should the browser's picture have another size. */
  linePlace(place) {
    return { ...place, scale: (place.scale * this.picture.image.width) / this.line.width };
  }

  /** Index of the smallest face at a point of the pane, null where there is none. */
  faceAt(px, py) {
    if (!this.line || !this.picture?.image) return null;
    const { scale, left, top } = this.linePlace(this.page.view.place(this.picture.image, this.size()));
    const x = (px - left) / scale;
    const y = (py - top) / scale;
    let best = null;
    let least = Infinity;
    this.line.boxes.slice(0, this.count).forEach(([x1, y1, x2, y2], face) => {
      const area = (x2 - x1) * (y2 - y1);
      if (x >= x1 && x <= x2 && y >= y1 && y <= y2 && area < least) [best, least] = [face, area];
    });
    return best;
  }
}
