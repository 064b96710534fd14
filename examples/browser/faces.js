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

/** The picture as a tensor (1, 3, H, W) of bytes, resized as in Python with OpenCV, to the last bit:
 * bilinear in steps of 1/2048, and where a side shrinks to a half or less, between means of blocks. */
function letterbox({ data, width: fullWidth, height: fullHeight }, width, height) {
  const canvasWidth = Math.ceil(width / MULTIPLE) * MULTIPLE;
  const canvasHeight = Math.ceil(height / MULTIPLE) * MULTIPLE;
  const blockX = Math.max(1, Math.floor(fullWidth / width));
  const blockY = Math.max(1, Math.floor(fullHeight / height));
  const columns = Math.floor(fullWidth / blockX);
  const rows = Math.floor(fullHeight / blockY);
  const across = steps(width, fullWidth / width / blockX, columns);
  const down = steps(height, fullHeight / height / blockY, rows);
  const bytes = new Uint8Array(3 * canvasHeight * canvasWidth).fill(FILL);
  const means = new Int32Array(rows * columns);
  const lines = new Int32Array(rows * width);
  for (let channel = 0; channel < 3; channel += 1) {
    means.fill(0);
    for (let y = 0; y < rows * blockY; y += 1) {
      for (let x = 0; x < columns * blockX; x += 1) {
        means[Math.floor(y / blockY) * columns + Math.floor(x / blockX)] +=
          data[4 * (y * fullWidth + x) + channel];
      }
    }
    for (let i = 0; i < means.length; i += 1) means[i] = mean(means[i], blockX, blockY);
    for (let y = 0; y < rows; y += 1) {
      for (let j = 0; j < width; j += 1) {
        const [left, right, first, second] = across[j];
        lines[y * width + j] = means[y * columns + left] * first + means[y * columns + right] * second;
      }
    }
    for (let i = 0; i < height; i += 1) {
      const [top, bottom, first, second] = down[i];
      for (let j = 0; j < width; j += 1) {
        const upper = (first * (lines[top * width + j] >> 4)) >> 16;
        const lower = (second * (lines[bottom * width + j] >> 4)) >> 16;
        bytes[(channel * canvasHeight + i) * canvasWidth + j] = (upper + lower + 2) >> 2;
      }
    }
  }
  return new ort.Tensor("uint8", bytes, [1, 3, canvasHeight, canvasWidth]);
}

/** Of each of so many places, a step apart: the two of the length that it lies between, and what
 * each counts, of 2048. */
function steps(count, step, length) {
  const within = (place) => Math.min(Math.max(place, 0), length - 1);
  return Array.from({ length: count }, (_, i) => {
    const at = Math.fround((i + 0.5) * (1 / (1 / step)) - 0.5); // OpenCV is given 1 / step
    const first = Math.floor(at);
    const share = Math.fround(at - first);
    const weights = [Math.fround(1 - share), share].map((part) => toEven(part * 2048));
    return [within(first), within(first + 1), ...weights];
  });
}

/** The mean of a block by its sum, as a byte; OpenCV rounds halves up where blocks are 2x2. */
function mean(sum, blockX, blockY) {
  if (blockX === 2 && blockY === 2) return (sum + 2) >> 2;
  return toEven(Math.fround(sum * Math.fround(1 / (blockX * blockY))));
}

/** The nearest integer, of two the even one. */
function toEven(value) {
  const up = Math.floor(value + 0.5);
  return up - value === 0.5 && up % 2 !== 0 ? up - 1 : up;
}
