// Finds faces by a model that was exported with --with-nms: docs/guides/export.md says how to start.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

const LONG_SIDE = 640;
const MULTIPLE = 32; // of the sides that the model takes
const FILL = 127; // of the padding

/** A session of the model file at an address. */
export function load(address) {
  return ort.InferenceSession.create(address);
}

/**
 * The faces of an ImageBitmap, best first, in its pixels: their box [x1, y1, x2, y2], score and
 * landmarks [[x, y], ...]; and the milliseconds that the model took.
 */
export async function detect(session, picture) {
  const scale = LONG_SIDE / Math.max(picture.width, picture.height);
  const width = Math.max(1, Math.floor(picture.width * scale + 0.5));
  const height = Math.max(1, Math.floor(picture.height * scale + 0.5));
  const image = letterbox(pixels(picture), width, height);
  const start = performance.now();
  const out = await session.run({ image });
  const milliseconds = performance.now() - start;
  const [toX, toY] = [picture.width / width, picture.height / height];
  const points = (values, row, count) =>
    Array.from({ length: count }, (_, i) => [
      values[2 * (row * count + i)] * toX,
      values[2 * (row * count + i) + 1] * toY,
    ]);
  const faces = [];
  const scores = out.scores.data;
  for (let row = 0; row < scores.length && scores[row] > 0; row += 1) {
    const box = points(out.boxes.data, row, 2).map(([x, y]) => [
      Math.min(Math.max(x, 0), picture.width),
      Math.min(Math.max(y, 0), picture.height),
    ]);
    const landmarks = out.landmarks ? points(out.landmarks.data, row, 5) : [];
    faces.push({ box: box.flat(), score: scores[row], landmarks });
  }
  return { faces, milliseconds };
}

function pixels(picture) {
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(picture, 0, 0);
  return pen.getImageData(0, 0, picture.width, picture.height);
}

/** The picture as a tensor (1, 3, H, W) of bytes, resized as in Python: bilinear, and where a side
 * shrinks to a half or less, between means of blocks. */
function letterbox({ data, width: fullWidth, height: fullHeight }, width, height) {
  const canvasWidth = Math.ceil(width / MULTIPLE) * MULTIPLE;
  const canvasHeight = Math.ceil(height / MULTIPLE) * MULTIPLE;
  const blockX = Math.max(1, Math.floor(fullWidth / width));
  const blockY = Math.max(1, Math.floor(fullHeight / height));
  const columns = Math.floor(fullWidth / blockX);
  const rows = Math.floor(fullHeight / blockY);
  const bytes = new Uint8Array(3 * canvasHeight * canvasWidth).fill(FILL);
  const means = new Float32Array(rows * columns);
  for (let channel = 0; channel < 3; channel += 1) {
    means.fill(0);
    for (let y = 0; y < rows * blockY; y += 1) {
      for (let x = 0; x < columns * blockX; x += 1) {
        means[Math.floor(y / blockY) * columns + Math.floor(x / blockX)] +=
          data[4 * (y * fullWidth + x) + channel];
      }
    }
    const take = (y, x) => means[Math.min(Math.max(y, 0), rows - 1) * columns + Math.min(Math.max(x, 0), columns - 1)];
    for (let i = 0; i < height; i += 1) {
      const y = ((i + 0.5) * fullHeight) / height / blockY - 0.5;
      const [top, down] = [Math.floor(y), y - Math.floor(y)];
      for (let j = 0; j < width; j += 1) {
        const x = ((j + 0.5) * fullWidth) / width / blockX - 0.5;
        const [left, right] = [Math.floor(x), x - Math.floor(x)];
        const upper = take(top, left) * (1 - right) + take(top, left + 1) * right;
        const lower = take(top + 1, left) * (1 - right) + take(top + 1, left + 1) * right;
        bytes[(channel * canvasHeight + i) * canvasWidth + j] =
          (upper * (1 - down) + lower * down) / (blockX * blockY) + 0.5;
      }
    }
  }
  return new ort.Tensor("uint8", bytes, [1, 3, canvasHeight, canvasWidth]);
}
