// Results: requests for them go out one after another, so that times do not disturb each other.

import { send } from "./api.js";
import { countFrom } from "./paint.js";
import { Picture } from "./pictures.js";
import { change, facesOf, get, page, say } from "./state.js";

const SPEAK_EVERY = 2500; // milliseconds between what is said of a camera

let working = false;

/** Have what is missing requested: of the picture that is shown first, then of the others. */
export async function work() {
	change();
	if (working) return;
	working = true;
	let done = 0;
	for (let job; !page.camera && (job = nextJob()); done++) {
		const said = await request(...job);
		if (job[0] === page.picture) say(said);
	}
	working = false;
	if (done > 1 && !page.camera) requestAnimationFrame(() => say(get("progress").textContent));
}

function nextJob() {
	for (const picture of [page.picture, ...page.pictures]) {
		const pane = picture && page.panes.find((one) => !one.resultOf(picture));
		if (pane) return [picture, pane];
	}
	return null;
}

/** Add the result of a pane to a picture's; gives a text that says what it is. */
async function request(picture, pane) {
	const { key, model, query, least } = pane;
	const set = (result) => {
		picture.results.set(key, result);
		change();
	};
	set({ running: "Finding faces …" });
	const waiting = (seconds) => set({ running: `The service is busy: again in ${Math.ceil(seconds)} s` });
	const started = performance.now();
	try {
		const line = model.lineOf?.(picture) ?? (await detected(picture, query, waiting));
		set({ line, ms: model.lineOf ? 0 : performance.now() - started });
		const count = countFrom(line, least);
		return `${picture.name}: ${query.model} found ${facesOf(count)} from a score of ${least.toFixed(2)} on`;
	} catch (error) {
		set({ failed: error.message });
		return `${picture.name}: ${query.model} failed: ${error.message}`;
	}
}

async function detected({ blob, name, stop }, query, waiting) {
	const response = await send("v1/detect", { body: blob, query, signal: stop.signal, waiting });
	return { ...(await response.json()).images[0], image: name };
}

/** Show frames of a camera until it is stopped; the next is taken once all panes have answered. */
export async function follow(camera) {
	let [pace, faces, spoken] = [0, null, 0];
	while (page.camera === camera && camera.stream.active) {
		const started = performance.now();
		const { blob, image } = await camera.frame();
		const picture = Object.assign(new Picture(blob, "Camera"), { image, live: true });
		for (const pane of [...page.panes]) {
			if (page.camera === camera) await request(picture, pane);
		}
		if (page.camera !== camera) return picture.unload();
		page.picture?.unload();
		page.picture = picture;
		pace = 0.9 * pace + 0.1 * (performance.now() - started);
		picture.pace = `${(1000 / pace).toFixed(1)} frames a second`;
		change();
		const count = page.active.shown()?.scores.length;
		if (count !== faces && started - spoken > SPEAK_EVERY) {
			[faces, spoken] = [count, started];
			say(`Camera: ${count === undefined ? "no answer" : facesOf(count)}`);
		}
		if (count === undefined) await new Promise((resolve) => setTimeout(resolve, 1500));
		await new Promise(requestAnimationFrame); // there is none while the page is hidden
	}
}
