// A pane: a model and a protocol, what they find in the picture, and from which score on.

import { countFrom, firstFaces, paintFaces } from "./paint.js";
import { change, facesOf, get, page } from "./state.js";
import { attach } from "./view.js";

const LOW = 0.05; // scores from which faces are requested; sliders choose among them
const BARS = 48;

/** `act` has what a pane leads to: `work()` for results, `close(pane)` and `step(by)`. */
export class Pane {
	constructor(model, color, act) {
		this.color = color;
		this.root = get("pane").content.firstElementChild.cloneNode(true);
		this.parts = {};
		for (const part of this.root.querySelectorAll("[data-part]")) this.parts[part.dataset.part] = part;
		const { models, protocols, close, again, slider, swatch, frame } = this.parts;
		swatch.style.background = color;
		models.append(...page.models.map(({ name }) => new Option(name)));
		this.useModel(model);
		models.onchange = () => {
			this.useModel(page.models[models.selectedIndex]);
			act.work();
		};
		protocols.onchange = () => {
			this.protocol = protocols.value;
			act.work();
		};
		close.onclick = () => act.close(this);
		again.onclick = () => {
			page.picture.results.delete(this.key);
			act.work();
		};
		slider.oninput = () => {
			this.least = Number(slider.value);
			change();
		};
		for (const event of ["focusin", "pointerdown"]) this.root.addEventListener(event, () => this.activate());
		attach(frame, page.view, () => this.sizes(), {
			pick: (x, y) => this.activate(this.faceAt(x, y)),
			step: act.step,
		});
		new ResizeObserver(() => change()).observe(frame);
	}

	useModel(model) {
		const { models, protocols } = this.parts;
		this.model = model;
		this.protocol = model.protocol;
		this.least = model.threshold;
		models.selectedIndex = page.models.indexOf(model);
		protocols.replaceChildren(...model.protocols.map((name) => new Option(name)));
		protocols.value = model.protocol;
	}

	/** Let faces and downloads be those of this pane. */
	activate(chosen = page.active === this ? page.chosen : null) {
		page.active = this;
		page.chosen = chosen;
		change();
	}

	get meshed() {
		return page.show.mesh && this.model.mesh;
	}

	/** The least score that is requested. */
	get floor() {
		const { threshold } = this.model;
		return this.meshed ? Number((threshold / 2).toFixed(2)) : Math.min(LOW, threshold);
	}

	/** What a request says; other ones have other results. */
	get query() {
		const { model, protocol, meshed, floor } = this;
		return { model: model.name, protocol, score: floor, ...(meshed && { mesh: true }) };
	}

	get key() {
		return `${page.models.indexOf(this.model)} ${this.protocol} ${this.meshed}`;
	}

	/** {line, ms} of a picture, or {running: text}, or {failed: text}, or undefined. */
	resultOf(picture) {
		return picture.results.get(this.key);
	}

	/** The faces of a picture from the least score on, as a line of results. */
	shown(picture = page.picture) {
		const line = this.resultOf(picture)?.line;
		return line && firstFaces(line, countFrom(line, this.least));
	}

	render() {
		const { parts, model, least } = this;
		const { picture, panes } = page;
		const result = this.resultOf(picture);
		const shown = this.shown();
		const found = shown ? facesOf(shown.scores.length) : "";
		const many = panes.length > 1;
		this.root.classList.toggle("active", many && page.active === this);
		this.root.classList.toggle("busy", Boolean(result?.running));
		this.root.classList.toggle("failed", Boolean(result?.failed));
		parts.close.hidden = !many;
		parts.again.hidden = !result?.failed;
		parts.note.textContent = result?.running ?? result?.failed ?? "";
		parts.found.textContent = found || "–";
		parts.time.textContent = result?.ms ? `${Math.round(result.ms)} ms` : "";
		parts.slider.min = this.floor;
		parts.slider.value = this.least = Math.max(least, this.floor);
		parts.least.textContent = `≥ ${this.least.toFixed(2)}`;
		parts.slider.ariaLabel = `Least score of ${model.name}`;
		parts.slider.ariaValueText = `${this.least.toFixed(2)} ${found}`;
		parts.frame.ariaLabel = `${picture.name} by ${model.name}, ${this.protocol}`;
		parts.canvas.ariaLabel = `${picture.name} ${found}`;
		this.renderBars(result?.line);
		this.draw();
	}

	/** A histogram of the scores above the slider; what is below the least score is gray. */
	renderBars(line) {
		const at = (score) => (score - this.floor) / (1 - this.floor);
		this.root.style.setProperty("--at", `${100 * at(this.least)}%`);
		if (this.barsOf === line) return;
		this.barsOf = line;
		const bars = new Array(BARS).fill(0);
		for (const score of line?.scores ?? []) bars[Math.min(BARS - 1, Math.floor(at(score) * BARS))] += 1;
		const most = Math.sqrt(Math.max(...bars));
		const path = bars.map((bar, index) => {
			const height = Math.max(2, (18 * Math.sqrt(bar)) / most);
			return bar ? `M${(100 * index) / BARS} 20v${-height}h1.5v${height}z` : "";
		});
		for (const drawn of this.root.querySelectorAll("path")) drawn.setAttribute("d", path.join(""));
	}

	/** Sizes of the picture and of the pane, null while there is no picture. */
	sizes() {
		const { clientWidth: width, clientHeight: height } = this.parts.frame;
		const image = page.picture?.image;
		return image && width ? { picture: image, pane: { width, height } } : null;
	}

	/** Where the picture lies in the pane, and where the pixels of a line of results do. */
	places(line) {
		const sizes = this.sizes();
		const place = page.view.place(sizes);
		return [place, { ...place, scale: (place.scale * sizes.picture.width) / (line?.width ?? 1) }];
	}

	draw() {
		const { canvas, frame } = this.parts;
		const ratio = devicePixelRatio;
		canvas.width = frame.clientWidth * ratio;
		canvas.height = frame.clientHeight * ratio;
		frame.classList.toggle("zoomed", page.view.zoom > 1);
		if (!this.sizes()) return;
		const { image } = page.picture;
		const shown = this.shown();
		const [{ scale, left, top }, place] = this.places(shown);
		const context = canvas.getContext("2d");
		context.scale(ratio, ratio);
		context.imageSmoothingEnabled = scale < 4;
		context.imageSmoothingQuality = "high";
		context.drawImage(image, left, top, image.width * scale, image.height * scale);
		const chosen = page.active === this ? page.chosen : null;
		if (shown) paintFaces(context, shown, place, 2, this.color, { ...page.show, chosen });
	}

	/** Index of the smallest face at a point of the pane, null where there is none. */
	faceAt(px, py) {
		const shown = this.shown();
		if (!shown || !this.sizes()) return null;
		const { scale, left, top } = this.places(shown)[1];
		const [x, y] = [(px - left) / scale, (py - top) / scale];
		let [best, least] = [null, Infinity];
		shown.boxes.forEach(([x1, y1, x2, y2], face) => {
			const area = (x2 - x1) * (y2 - y1);
			if (x >= x1 && x <= x2 && y >= y1 && y <= y2 && area < least) [best, least] = [face, area];
		});
		return best;
	}
}
