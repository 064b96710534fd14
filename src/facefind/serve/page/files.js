// What is chosen or dropped: pictures, folders of them, files of results.

import { Picture } from "./pictures.js";

const PICTURE = /\.(jpe?g|jpe|jfif|mpo|a?png|webp|gif|bmp|dib|tiff?|avif|jp2|j2k|p[bgnp]m|qoi|hei[cf])$/i;
const RESULTS = /\.(jsonl|ndjson)$/i;
const last = (path) => path.split("/").at(-1);

/**
 * {pictures, results, lost} of files and of entries that are dropped: pictures, those of a folder in
 * the order of their names; files of results; and paths of what cannot be read.
 */
export async function gather(given) {
	const [pictures, inside, results, lost] = [[], [], [], []];
	for (const one of given) {
		for await (const [path, file] of walk(one, lost)) {
			if (RESULTS.test(path)) results.push(file);
			else if (!path.includes("/")) pictures.push(new Picture(file, path));
			else if (PICTURE.test(path) && !path.includes("/.")) inside.push(new Picture(file, path));
		}
	}
	const place = ({ name }) => name.replaceAll("/", "\0"); // a folder's files stay together
	inside.sort((one, other) => (place(one) < place(other) ? -1 : 1));
	for (const folder of Map.groupBy(inside, ({ name }) => name.split("/")[0]).values()) {
		folder.forEach((picture, frame) => Object.assign(picture, { frame, frames: folder.length }));
	}
	return { pictures: [...pictures, ...inside], results, lost };
}

async function* walk(one, lost) {
	const path = one.fullPath?.slice(1) ?? (one.webkitRelativePath || one.name);
	const call = (object, method) => new Promise((done, fail) => object[method](done, fail));
	try {
		if (one.isDirectory) {
			const reader = one.createReader();
			for (let some; (some = await call(reader, "readEntries")).length; ) {
				for (const entry of some) yield* walk(entry, lost);
			}
		} else yield [path, one.isFile ? await call(one, "file") : one];
	} catch {
		lost.push(path);
	}
}

/**
 * A file of results in place of a model: lines of `facefind detect --out`, of which a picture has the
 * one of its name, or of `facefind track --out`, one for each picture of a folder.
 */
export async function readResults(file) {
	const { name } = file;
	const lines = (await file.text()).trim().split("\n").map(parsed);
	if (!lines.every((line) => line?.image && (line.scores || line.error))) {
		throw new Error(`${name} has no lines as facefind detect --out writes them.`);
	}
	const groups = Map.groupBy(lines, ({ frame, image }) => frame ?? last(image));
	const some = (key) => lines.some((line) => line[key]);

	function lineOf(picture) {
		const within = (path, part) => `/${path}`.endsWith(`/${part}`);
		const fits = ({ image }) => within(image, picture.name) || within(picture.name, image);
		const found = groups.get(picture.frame) ?? (groups.get(last(picture.name)) ?? []).filter(fits);
		if (lines[0].frame === 0 && picture.frames !== lines.length) {
			throw new Error(`${name} has lines of ${lines.length} frames: add a folder of as many pictures.`);
		}
		if (found.length !== 1) throw new Error(`${name} has ${found.length || "no"} lines of ${picture.name}.`);
		if (found[0].error) throw new Error(found[0].error);
		return found[0];
	}
	return { name, protocol: "file", protocols: ["file"], threshold: 0, mesh: some("mesh"), ids: some("ids"), lineOf };
}

function parsed(line) {
	try {
		return JSON.parse(line);
	} catch {
		return null;
	}
}
