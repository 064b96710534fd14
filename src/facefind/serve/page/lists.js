// Lists of which one option is chosen, by arrow keys too, and the list of faces.

import { facesOf, get, page } from "./state.js";

const MOST_FACES = 200;

let listed = {};

/**
 * Make a list's options one tab stop. `act` has `choose(option)`, and may have `open(option)` for
 * Enter or a double click and `remove(option)` for Delete.
 */
export function makeListbox(list, act) {
	const at = (event) => event.target.closest("li");
	list.onclick = (event) => at(event) && act.choose(at(event));
	list.ondblclick = (event) => at(event) && act.open?.(at(event));
	list.onkeydown = (event) => {
		const option = at(event);
		if (!option) return;
		const { nextElementSibling: after, previousElementSibling: before } = option;
		const shown = [...list.children].filter((one) => !one.hidden);
		const [Home, End] = [shown[0], shown.at(-1)];
		const moves = { ArrowRight: after, ArrowDown: after, ArrowLeft: before, ArrowUp: before, Home, End };
		if (event.key in moves) {
			const next = moves[event.key];
			if (next && !next.hidden) {
				act.choose(next);
				next.focus();
			}
		} else if (event.key === "Enter" || event.key === " ") (act.open ?? act.choose)(option);
		else if (event.key === "Delete") act.remove?.(option);
		else return;
		event.preventDefault();
	};
}

/** Mark the chosen option; it, or else the first, is the tab stop. */
export function mark(list, chosen) {
	const stop = chosen?.parentNode === list ? chosen : list.firstChild;
	for (const option of list.querySelectorAll("[aria-selected=true], [tabindex='0']")) {
		Object.assign(option, { ariaSelected: false, tabIndex: -1 });
	}
	if (stop) Object.assign(stop, { ariaSelected: stop === chosen, tabIndex: 0 });
}

/** An option of the list: what shows it, and elements of [tag, class, text]. */
export function makeOption(seen, ...parts) {
	const option = document.createElement("li");
	Object.assign(option, { role: "option", ariaSelected: false, tabIndex: -1 });
	option.append(seen);
	for (const [tag, className, textContent] of parts) {
		option.append(" ", Object.assign(document.createElement(tag), { className, textContent }));
	}
	return option;
}

/** Show the faces of the active pane. */
export function renderFaces() {
	const { active, picture } = page;
	const list = get("faces");
	const { line } = active.resultOf(picture) ?? {};
	const count = active.shown()?.scores.length ?? 0;
	const soon = picture.live && performance.now() - listed.at < 500;
	if (!soon && (listed.line !== line || listed.image !== picture.image)) {
		listed = { line, image: picture.image, at: performance.now() };
		list.replaceChildren(...(line?.scores ?? []).slice(0, MOST_FACES).map((_, face) => faceOption(face)));
	}
	[...list.children].forEach((option, face) => {
		option.hidden = face >= count;
	});
	list.hidden = !count;
	mark(list, page.chosen < count ? list.children[page.chosen] : null);
	get("faces-title").textContent = line ? `${facesOf(count)} by ${active.model.name}` : "Faces";
	get("faces-note").textContent = count > MOST_FACES ? `and ${count - MOST_FACES} more` : "";
}

function faceOption(face) {
	const { line, image } = listed;
	const [x1, y1, x2, y2] = line.boxes[face];
	const score = line.scores[face].toFixed(2);
	const size = `${Math.round(x2 - x1)} × ${Math.round(y2 - y1)}`;
	const id = line.ids?.[face] ?? face + 1;
	const canvas = Object.assign(document.createElement("canvas"), { width: 88, height: 88 });
	const option = makeOption(canvas, ["b", "", score], ["small", "", `#${id} · ${size}`]);
	option.dataset.face = face;
	option.ariaLabel = `${score} #${id} ${size} pixels`;
	if (image) {
		const scale = image.width / line.width;
		const side = 1.25 * scale * Math.max(x2 - x1, y2 - y1, 1);
		const [x, y] = [((x1 + x2) / 2) * scale, ((y1 + y2) / 2) * scale];
		const context = canvas.getContext("2d");
		context.imageSmoothingQuality = "high";
		context.drawImage(image, x - side / 2, y - side / 2, side, side, 0, 0, 88, 88);
	}
	return option;
}
