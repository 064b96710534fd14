// Faces drawn over a picture, on the screen and in the annotated copy.

export const COLORS = ["#00e676", "#40a0ff", "#ffab40", "#ea80fc"];
const TRACKS = [...COLORS, "#ffeb3b", "#18ffff", "#ff5252", "#b2ff59", "#ff80ab", "#bcaaa4"];
// Eyes, nose, mouth corners: left differs from right.
const POINTS = ["#ff5252", "#409cff", "#ffeb3b", "#ff5252", "#409cff"];
const MESH = "rgba(170, 220, 255, .85)";
const HALO = "rgba(0, 0, 0, .5)";

/** How many faces have at least this score; they are sorted, so these are the first. */
export function countFrom(line, least) {
  const first = line.scores.findIndex((score) => score < least);
  return first < 0 ? line.scores.length : first;
}

/** The first `count` faces of a line of results. */
export function firstFaces(line, count) {
  const part = { ...line };
  for (const key of ["boxes", "scores", "landmarks", "mesh", "ids"]) {
    if (part[key]) part[key] = part[key].slice(0, count);
  }
  return part;
}

/**
 * Draw faces. `place` has `scale`, `left` and `top`, which take the picture's pixels to the
 * canvas's; `pen` is the width of lines; `show` has the parts to draw, and the `chosen` face.
 */
export function paintFaces(context, line, place, pen, color, show) {
  const x = (value) => place.left + value * place.scale;
  const y = (value) => place.top + value * place.scale;
  context.save();
  context.lineJoin = "round";
  for (let face = line.scores.length - 1; face >= 0; face--) {
    const [x1, y1, x2, y2] = line.boxes[face];
    const box = [x(x1), y(y1), (x2 - x1) * place.scale, (y2 - y1) * place.scale];
    const side = Math.min(box[2], box[3]);
    const id = line.ids?.[face];
    const shade = id == null ? color : TRACKS[id % TRACKS.length];
    const width = Math.max(1, Math.min(pen, side / 14)) * (face === show.chosen ? 1.7 : 1);
    if (show.mesh && line.mesh) paintMesh(context, line.mesh[face], x, y, Math.max(1, pen / 2));
    if (face === show.chosen) {
      context.fillStyle = `${shade}26`;
      context.fillRect(...box);
    }
    paintBox(context, box, width, shade);
    if (show.points && line.landmarks) {
      const radius = Math.max(0.8, Math.min(side / 26, pen * 1.6));
      line.landmarks[face].forEach(([px, py], index) => {
        dot(context, x(px), y(py), radius, POINTS[index]);
      });
    }
  }
  for (let face = line.scores.length - 1; face >= 0; face--) {
    const [x1, y1, x2] = line.boxes[face];
    const text = labelOf(line, face, show);
    if (text) paintLabel(context, text, x(x1), y(y1), (x2 - x1) * place.scale, pen, color);
  }
  context.restore();
}

function labelOf(line, face, show) {
  const id = line.ids?.[face] ?? face + 1;
  const parts = [];
  if (show.numbers) parts.push(`#${id}`);
  if (show.scores) parts.push(line.scores[face].toFixed(2));
  return parts.join(" ");
}

/** A thin frame with strong corners; small boxes are plain. */
function paintBox(context, [left, top, width, height], pen, color) {
  const arm = Math.min(width, height) * 0.22;
  const corners = new Path2D();
  for (const [cornerX, cornerY, toX, toY] of [
    [left, top, 1, 1],
    [left + width, top, -1, 1],
    [left + width, top + height, -1, -1],
    [left, top + height, 1, -1],
  ]) {
    corners.moveTo(cornerX + toX * arm, cornerY);
    corners.lineTo(cornerX, cornerY);
    corners.lineTo(cornerX, cornerY + toY * arm);
  }
  const frame = new Path2D();
  frame.rect(left, top, width, height);
  const small = Math.min(width, height) < 16 * pen;
  context.lineWidth = pen * (small ? 1.8 : 2.2);
  context.strokeStyle = HALO;
  context.stroke(small ? frame : corners);
  context.strokeStyle = color;
  context.lineWidth = small ? pen : pen * 0.45;
  context.stroke(frame);
  if (small) return;
  context.lineWidth = pen * 1.4;
  context.stroke(corners);
}

function dot(context, x, y, radius, color) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = color;
  context.fill();
  context.lineWidth = radius / 3;
  context.strokeStyle = HALO;
  context.stroke();
}

function paintMesh(context, vertices, x, y, size) {
  context.fillStyle = MESH;
  for (const [px, py] of vertices) context.fillRect(x(px) - size / 2, y(py) - size / 2, size, size);
}

function paintLabel(context, text, left, top, room, pen, color) {
  const size = Math.max(10, 6 * pen);
  context.font = `600 ${size}px system-ui, sans-serif`;
  const width = context.measureText(text).width + size * 0.8;
  if (room < width * 0.6) return; // it would hide the neighbors
  const height = size * 1.45;
  const x = Math.max(0, left - pen * 0.7);
  const y = top >= height + pen ? top - height - pen : top + pen;
  context.fillStyle = color;
  context.beginPath();
  context.roundRect(x, y, width, height, height / 3.5);
  context.fill();
  context.fillStyle = "#06130d";
  context.textBaseline = "middle";
  context.fillText(text, x + size * 0.4, y + height * 0.54);
}
