// Downloads: the annotated picture, crops in a ZIP file, JSON.

import { paintFaces } from "./paint.js";

const stem = (name) => name.replace(/\.[^.]+$/, "") || "picture";
const suffixOf = (blob) => (blob.type === "image/jpeg" ? "jpg" : blob.type.replace(/^image\//, ""));

/** Hand a blob to the browser as a file. */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** The picture in its own size with faces drawn, as JPEG where it was one and else as PNG. */
export async function saveAnnotated(picture, line, color, show) {
  const { image } = picture;
  const canvas = canvasOf(image.width, image.height);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pen = Math.max(1.5, (image.width + image.height) / 500);
  const place = { scale: image.width / line.width, left: 0, top: 0 };
  paintFaces(context, line, place, pen, color, { ...show, chosen: null });
  const blob = await blobOf(canvas, picture.blob.type === "image/jpeg" ? "image/jpeg" : "image/png");
  download(blob, `${stem(picture.name)}-faces.${suffixOf(blob)}`);
}

/** A ZIP file with a PNG file a face. */
export async function saveCrops(picture, line) {
  const scale = picture.image.width / line.width;
  const files = [];
  for (const [face, box] of line.boxes.entries()) {
    const [x1, y1, x2, y2] = box.map((value) => value * scale);
    const left = Math.max(0, Math.floor(x1));
    const top = Math.max(0, Math.floor(y1));
    const width = Math.min(picture.image.width, Math.ceil(x2)) - left;
    const height = Math.min(picture.image.height, Math.ceil(y2)) - top;
    if (width < 1 || height < 1) continue;
    const canvas = canvasOf(width, height);
    canvas.getContext("2d").drawImage(picture.image, -left, -top);
    const blob = await blobOf(canvas, "image/png");
    const number = String(face + 1).padStart(3, "0");
    const name = `${stem(picture.name)}-${number}-${line.scores[face].toFixed(2)}.png`;
    files.push({ name, bytes: new Uint8Array(await blob.arrayBuffer()) });
  }
  download(zip(files), `${stem(picture.name)}-crops.zip`);
}

/** The line of a picture, in the form of the service's answer. */
export function saveJson(picture, line, { model, protocol }) {
  const answer = { version: 1, model, protocol, images: [line] };
  const blob = new Blob([JSON.stringify(answer)], { type: "application/json" });
  download(blob, `${stem(picture.name)}.json`);
}

/** Lines of many pictures, as `facefind detect --out` writes them. */
export function saveLines(lines) {
  const text = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
  download(new Blob([text], { type: "application/jsonl" }), "faces.jsonl");
}

/** A redacted picture that the service made. */
export function saveRedacted(picture, blob) {
  download(blob, `${stem(picture.name)}-redacted.${suffixOf(blob)}`);
}

function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

function blobOf(canvas, type) {
  return new Promise((resolve, reject) => {
    const done = (blob) => (blob ? resolve(blob) : reject(new Error("The picture is too large.")));
    canvas.toBlob(done, type, 0.92);
  });
}

/** A ZIP file of files {name, bytes}, stored as they are: PNG would not get smaller. */
export function zip(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, bytes } of files) {
    const label = new TextEncoder().encode(name);
    // Version 2.0, names in UTF-8, stored, 1 January 1980.
    const about = [20, 0x0800, 0, 0, 0x21];
    const sizes = [crc32(bytes), bytes.length, bytes.length];
    parts.push(record(0x04034b50, about, sizes, [label.length, 0], []), label, bytes);
    directory.push(
      record(0x02014b50, [20, ...about], sizes, [label.length, 0, 0, 0, 0], [0, offset]),
      label,
    );
    offset += 30 + label.length + bytes.length;
  }
  const length = directory.reduce((sum, part) => sum + part.length, 0);
  const count = files.length;
  const end = record(0x06054b50, [0, 0, count, count], [length, offset], [0], []);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** A little-endian record: a signature, then 16 and 32 bit numbers in turn. */
function record(signature, shorts, longs, more, last) {
  const size = 4 + 2 * (shorts.length + more.length) + 4 * (longs.length + last.length);
  const view = new DataView(new ArrayBuffer(size));
  view.setUint32(0, signature, true);
  let at = 4;
  for (const [numbers, width] of [[shorts, 2], [longs, 4], [more, 2], [last, 4]]) {
    for (const number of numbers) {
      if (width === 2) view.setUint16(at, number, true);
      else view.setUint32(at, number, true);
      at += width;
    }
  }
  return new Uint8Array(view.buffer);
}

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
