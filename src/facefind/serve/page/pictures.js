// Pictures that were added, and their list.

import { send } from "./api.js";
import { makeOption, mark } from "./lists.js";
import { countFrom } from "./paint.js";
import { get, page } from "./state.js";

/** A picture: its file, its results by what was requested, and its option in the list. */
export class Picture {
	constructor(blob, name) {
		this.blob = blob;
		this.name = name;
		this.image = null;
		this.results = new Map();
		this.stop = new AbortController();
	}

	/** Its option in the list, which shows it once it is in sight. */
	makeOption() {
		const thumb = Object.assign(new Image(), { loading: "lazy", alt: "", src: URL.createObjectURL(this.blob) });
		thumb.onload = () => URL.revokeObjectURL(thumb.src);
		thumb.onerror = async () => {
			thumb.onerror = null;
			const drawn = await this.drawn();
			if (drawn) thumb.src = URL.createObjectURL(drawn);
		};
		this.option = makeOption(thumb, ["span", "name", this.name.replace(/.*\//, "")], ["span", "state", "…"]);
		return Object.assign(this.option, { picture: this });
	}

	/** Decode the picture for the screen, upright. */
	async load() {
		const decoding = () => createImageBitmap(this.blob).catch(async () => createImageBitmap(await this.drawn()));
		this.image ??= await decoding().catch(() => null); // a result says why
		if (page.picture !== this) this.unload();
	}

	unload() {
		this.image?.close();
		this.image = null;
	}

	/** What the browser cannot decode, by the service as JPEG; null where it cannot either. */
	drawn() {
		const asked = { body: this.blob, query: { score: 1 }, accept: "image/jpeg" };
		this.drawing ??= send("v1/detect", asked).then((response) => response.blob()).catch(() => (this.drawing = null));
		return this.drawing;
	}

	/** "failed", "done", "running" or "waiting", over all panes; and why, or what was found. */
	state() {
		const results = page.panes.map((pane) => pane.resultOf(this));
		const failed = results.find((result) => result?.failed);
		if (failed) return ["failed", failed.failed];
		if (results.every((result) => result?.line)) {
			return ["done", page.panes.map(({ least }, pane) => countFrom(results[pane].line, least)).join(" / ")];
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
		if (one.said === state + text) continue;
		one.said = state + text;
		option.dataset.state = state;
		option.lastChild.textContent = state === "failed" ? "!" : text;
		option.ariaLabel = `${name} ${option.lastChild.textContent} ${{ done: "faces", failed: text }[state] ?? state}`;
		option.title = state === "failed" ? text : name;
	}
	const failed = count.failed ? `, ${count.failed} failed` : "";
	get("progress").textContent = pictures.length < 2 ? "" : `${count.done} of ${pictures.length} done${failed}`;
	get("strip").hidden = !pictures.length;
	get("remove").disabled = !pictures.includes(picture);
	mark(get("pictures"), picture.option);
}
