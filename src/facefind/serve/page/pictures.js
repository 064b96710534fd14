// Pictures that were added: what is known of each, and the browser's decoded copy of a few.

import { makePicture } from "./api.js";
import { drawThumb, pictureOption } from "./lists.js";

const MOST_DECODED = 6;
const decoded = [];
let thumbs = Promise.resolve();

/** A picture: its file, its results by pair, and its option in the list. */
export class Picture {
  constructor(blob, name) {
    this.blob = blob;
    this.name = name;
    this.image = null;
    this.results = new Map();
    this.option = pictureOption(name);
  }

  /** Decode the picture for the screen, upright; where the browser cannot, the service does. */
  async load() {
    this.loading ??= this.decode();
    await this.loading;
    const at = decoded.indexOf(this);
    if (at >= 0) decoded.splice(at, 1);
    decoded.push(this);
    while (decoded.length > MOST_DECODED) decoded.shift().unload();
  }

  async decode() {
    try {
      this.image = await createImageBitmap(this.blob);
    } catch {
      try {
        const blob = await makePicture("v1/detect", this.blob, { score: 1 }, { accept: "image/jpeg" });
        this.image = await createImageBitmap(blob);
      } catch {
        this.image = null; // its result has the reason
      }
    }
    if (this.image) drawThumb(this.option, this.image);
  }

  unload() {
    this.image?.close();
    this.image = this.loading = null;
    const at = decoded.indexOf(this);
    if (at >= 0) decoded.splice(at, 1);
  }

  /** Draw the picture's thumbnail, after those that were begun before. */
  async makeThumb() {
    thumbs = thumbs.then(async () => {
      if (this.loading) return;
      try {
        const image = await createImageBitmap(this.blob, { resizeHeight: 320 });
        drawThumb(this.option, image);
        image.close();
      } catch {
        // The browser cannot show it; its option has its name.
      }
    });
    await thumbs;
  }
}

/** Files of a drop, those in folders too, or of the clipboard. */
export async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const files = [];
  const walk = async (entry) => {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      if (file.type.startsWith("image/")) files.push(file);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return;
      for (const one of some) await walk(one);
    }
  };
  for (const entry of entries) await walk(entry);
  return files;
}
