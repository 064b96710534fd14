// Pictures that were added, and their list.

import { makePicture } from "./api.js";
import { drawPart, makeOption, mark } from "./lists.js";
import { get, page } from "./state.js";

const MOST_DECODED = 6;
const decoded = [];
let thumbs = Promise.resolve();

/** A picture: its file, its results by what was requested, and its option in the list. */
export class Picture {
	constructor(blob, name) {
		this.blob = blob;
		this.name = name;
		this.image = null;
		this.results = new Map();
		this.stop = new AbortController();
	}

	get option() {
		return (this.made ??= makeOption(144, ["span", "name", this.name], ["span", "state", "…"]));
	}

	/** Decode the picture for the screen, upright; what the browser cannot decode the service does. */
	async load() {
		if (!decoded.includes(this)) {
			decoded.push(this);
			if (decoded.length > MOST_DECODED) decoded.find((one) => one !== page.picture).unload();
			const drawn = () => makePicture("v1/detect", this.blob, { score: 1 }, "image/jpeg");
			this.loading = createImageBitmap(this.blob)
				.catch(async () => createImageBitmap(await drawn()))
				.catch(() => null); // a result says why
		}
		this.image = await this.loading;
		if (this.image) this.drawThumb(this.image);
	}

	unload() {
		const at = decoded.indexOf(this);
		if (at >= 0) decoded.splice(at, 1);
		this.image?.close();
		this.image = null;
	}

	/** Draw the picture in the list, after those that were begun before. */
	makeThumb() {
		const make = () => createImageBitmap(this.blob, { resizeHeight: 320 });
		thumbs = thumbs.then(make).then((image) => {
			this.drawThumb(image);
			image.close();
		}, () => {
			this.blank = true; // until it has a result
		});
	}

	drawThumb(image) {
		const side = Math.min(image.width, image.height);
		const [left, top] = [(image.width - side) / 2, (image.height - side) / 4];
		drawPart(this.option.firstChild, image, left, top, side);
	}

	/** "failed", "done", "running" or "waiting", over all panes; and why, or what was found. */
	state() {
		const results = page.panes.map((pane) => pane.resultOf(this));
		const failed = results.find((result) => result?.failed);
		if (failed) return ["failed", failed.failed];
		if (results.every((result) => result?.line)) {
			return ["done", page.panes.map((pane) => pane.shown(this).scores.length).join(" / ")];
		}
		return results.some(Boolean) ? ["running", "…"] : ["waiting", "…"];
	}
}

/** Show how far each picture is. */
export function renderPictures() {
	const { pictures, picture } = page;
	const count = { done: 0, failed: 0, running: 0, waiting: 0 };
	for (const one of pictures) {
		const { option, name } = one;
		const [state, text] = one.state();
		count[state] += 1;
		option.dataset.state = state;
		option.lastChild.textContent = state === "failed" ? "!" : text;
		option.ariaLabel = `${name} ${option.lastChild.textContent} ${{ done: "faces", failed: text }[state] ?? state}`;
		option.title = state === "failed" ? text : name;
	}
	const left = count.running + count.waiting;
	const failed = count.failed ? `, ${count.failed} failed` : "";
	get("progress").textContent = pictures.length < 2 ? "" : `${count.done} of ${pictures.length} done${failed}`;
	get("bar").hidden = !left;
	get("bar").max = pictures.length;
	get("bar").value = pictures.length - left;
	get("strip").hidden = !pictures.length;
	get("remove").disabled = !pictures.includes(picture);
	mark(get("pictures"), picture.option);
}
