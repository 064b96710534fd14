// Downloads: annotated and redacted pictures, crops in a ZIP file, JSON.

import { send } from "./api.js";
import { paintFaces } from "./paint.js";
import { get, page } from "./state.js";

const stem = (name) => name.replace(/.*\/|\.[^.]+$/g, "");

/** What can be downloaded of the picture that is shown, by its button. */
export const savers = {
	/** The picture in its own size with faces drawn; JPEG where it was one. */
	async annotated({ blob, name, image }, pane) {
		const line = pane.shown();
		const pen = Math.max(1.5, (image.width + image.height) / 500);
		const place = { scale: image.width / line.width, left: 0, top: 0 };
		const type = blob.type === "image/jpeg" ? blob.type : "image/png";
		const drawn = await cut(image, [0, 0, image.width, image.height], type, (context) => {
			paintFaces(context, line, place, pen, pane.color, page.show);
		});
		download(drawn, `${stem(name)}-faces`);
	},

	async redacted({ blob, name }, pane) {
		const { mesh, ...options } = pane.query;
		const query = { ...options, score: pane.least, with: get("method").value };
		download(await (await send("v1/redact", { body: blob, query })).blob(), `${stem(name)}-redacted`);
	},

	/** A ZIP file with a PNG file a face. */
	async crops({ name, image }, pane) {
		const line = pane.shown();
		const files = [];
		for (const [face, box] of line.boxes.entries()) {
			const part = box.map((value) => Math.round((value * image.width) / line.width));
			const blob = await cut(image, part, "image/png");
			const label = `${stem(name)}-${face + 1}-${line.scores[face].toFixed(2)}.png`;
			files.push([label, new Uint8Array(await blob.arrayBuffer())]);
		}
		download(zip(files), `${stem(name)}-crops`);
	},

	/** In the form of the service's answer. */
	json({ name }, pane) {
		const { model, protocol } = pane;
		const answer = { version: 1, model: model.name, protocol, images: [pane.shown()] };
		download(new Blob([JSON.stringify(answer)], { type: "application/json" }), stem(name));
	},

	/** A line for each picture that is done, as `facefind detect --out` writes it. */
	lines(picture, pane) {
		const lines = (picture.live ? [picture] : page.pictures).map((one) => pane.shown(one)).filter(Boolean);
		download(new Blob(lines.map((line) => `${JSON.stringify(line)}\n`)), "faces.jsonl");
	},
};

function download(blob, name) {
	const suffix = blob.type.replace(/^.*\//, ".").replace("jpeg", "jpg");
	const link = document.createElement("a");
	link.href = URL.createObjectURL(blob);
	link.download = name + suffix;
	link.click();
	setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** A file of a part (x1, y1, x2, y2) of a picture, cut at its edges; `paint` may draw on it. */
async function cut(image, [x1, y1, x2, y2], type, paint = () => {}) {
	const [left, top] = [Math.max(0, x1), Math.max(0, y1)];
	const canvas = document.createElement("canvas");
	canvas.width = Math.max(1, Math.min(image.width, x2) - left);
	canvas.height = Math.max(1, Math.min(image.height, y2) - top);
	const context = canvas.getContext("2d");
	context.drawImage(image, -left, -top);
	paint(context);
	const blob = await new Promise((resolve) => canvas.toBlob(resolve, type, 0.92));
	if (!blob) throw new Error("The picture is too large for this browser.");
	return blob;
}

/** A ZIP file of [name, bytes], stored as they are: PNG files would not get smaller. */
function zip(files) {
	// Machines that browsers run on have ZIP's order of bytes.
	const [short, long] = [(...numbers) => new Uint16Array(numbers), (...numbers) => new Uint32Array(numbers)];
	const [parts, directory] = [[], []];
	let offset = 0;
	for (const [name, bytes] of files) {
		const label = new TextEncoder().encode(name);
		// Version 2.0, names in UTF-8, stored, 1 January 1980.
		const head = [short(20, 0x0800, 0, 0, 0x21), long(crc32(bytes), bytes.length, bytes.length), short(label.length, 0)];
		parts.push(long(0x04034b50), ...head, label, bytes);
		directory.push(long(0x02014b50), short(20), ...head, short(0, 0, 0), long(0, offset), label);
		offset += 30 + label.length + bytes.length;
	}
	const { size } = new Blob(directory);
	const end = [long(0x06054b50), short(0, 0, files.length, files.length), long(size, offset), short(0)];
	return new Blob([...parts, ...directory, ...end], { type: "application/zip" });
}

function crc32(bytes) {
	let crc = ~0;
	for (const byte of bytes) {
		crc ^= byte;
		for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc >>> 0;
}
