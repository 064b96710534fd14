// What the page knows, and what says that it has changed.

import { View } from "./view.js";

export const get = (id) => document.getElementById(id);

export const page = {
	models: [],
	pictures: [],
	picture: null, // the one that is shown: one of `pictures`, or a frame of the camera
	panes: [],
	active: null, // the pane whose faces are listed and downloaded
	chosen: null, // the index of one of them
	show: { scores: true, points: true, ids: false, mesh: false },
	camera: null,
	view: new View(change),
	render() {},
};

let drawing = 0;

/** Show what is known now, with the next frame of the screen. */
export function change() {
	drawing ||= requestAnimationFrame(() => {
		drawing = 0;
		page.render();
	});
}

/** Have a screen reader say a text. */
export function say(text) {
	get("live").textContent = text;
}

/** "no faces", "1 face", "3 faces". */
export function facesOf(count) {
	return count === 1 ? "1 face" : `${count || "no"} faces`;
}
