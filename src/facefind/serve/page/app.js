// The page: pictures come in, buttons and keys do what they say, and what is known is shown.

import { hooks, listModels } from "./api.js";
import { Camera } from "./camera.js";
import { makeListbox, renderFaces } from "./lists.js";
import { COLORS } from "./paint.js";
import { Pane } from "./pane.js";
import { Picture, renderPictures } from "./pictures.js";
import { follow, work } from "./requests.js";
import { savers } from "./save.js";
import { change, get, page, say } from "./state.js";

const { pictures, panes, view } = page;
const all = (selector) => document.querySelectorAll(selector);

let named = 0;
let opening = false;

// Pictures come in, one is shown, some go.

function add(files) {
	if (!files.length) return;
	const added = files.map((file) => new Picture(file, file.name || `picture-${++named}`));
	for (const picture of added) {
		picture.makeThumb();
		get("pictures").append(picture.option);
	}
	pictures.push(...added);
	say(`${files.length === 1 ? "1 picture" : `${files.length} pictures`} added`);
	const lost = get("welcome").contains(document.activeElement);
	select(added[0]);
	page.render();
	if (lost) added[0].option.focus();
}

async function select(picture) {
	page.camera?.stop();
	page.camera = null;
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
	picture.unload();
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
	page.camera = await Camera.open().catch((error) => complain(error.message));
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
	get("panes").dataset.count = panes.length;
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
	get("token-note").textContent = refused ? "The service did not take that one." : "";
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
	add: () => get("files").click(),
	choose: () => get("files").click(),
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
	keep: () => add([new File([page.picture.blob], `camera-${++named}.jpg`, { type: "image/jpeg" })]),
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

const pictureOf = (option) => pictures.find((one) => one.option === option);
makeListbox(get("pictures"), {
	choose: (option) => select(pictureOf(option)),
	remove: (option) => remove(pictureOf(option)),
});
makeListbox(get("faces"), {
	choose: (option) => page.active.activate(Number(option.dataset.face)),
	open: showFace,
});

get("files").onchange = ({ target }) => {
	add([...target.files]);
	target.value = "";
};

let depth = 0; // of the elements that are dragged over
const dragged = (by) => {
	depth = by && depth + by;
	document.body.classList.toggle("dropping", depth > 0);
};
document.ondragenter = () => dragged(1);
document.ondragleave = () => dragged(-1);
document.ondragover = (event) => event.preventDefault();
document.ondrop = (event) => {
	event.preventDefault();
	dragged(0);
	add([...event.dataTransfer.files]);
};
document.onpaste = ({ clipboardData }) => {
	// Browsers call whatever is pasted image.png.
	const named = [...clipboardData.files].map((file) => [file, file.name.replace(/^image\./, "pasted.")]);
	add(named.map(([file, name]) => new File([file], name, { type: file.type })));
};

while (!page.models.length) {
	try {
		const { models, default: name } = await listModels();
		page.models = models;
		addPane(models.find((model) => model.name === name));
		complain("");
	} catch (error) {
		complain(error.message);
		await new Promise((resolve) => setTimeout(resolve, 3000));
	}
}
