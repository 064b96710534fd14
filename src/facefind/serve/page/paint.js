// Faces drawn over a picture, on the screen and in the annotated copy.

export const COLORS = ["#00e676", "#40a0ff", "#ffab40", "#ea80fc"];
const TRACKS = [...COLORS, "#ffeb3b", "#18ffff", "#ff5252", "#b2ff59", "#ff80ab", "#bcaaa4"];
// Eyes, nose, mouth corners: left differs from right.
const POINTS = ["#ff5252", "#409cff", "#ffeb3b", "#ff5252", "#409cff"];
const MESH = "#0a84ffc0";
const FONT = getComputedStyle(document.documentElement).fontFamily;
const HALO = "rgba(0, 0, 0, .5)";

/** How many faces have at least this score; they are sorted, so these are the first. */
export function countFrom(line, least) {
	return line.scores.filter((score) => score >= least).length;
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
	const { scale, left, top } = place;
	const at = ([x, y]) => [left + x * scale, top + y * scale];
	const faces = line.scores.map((score, face) => {
		const [x1, y1, x2, y2] = line.boxes[face];
		const id = line.ids?.[face];
		const shade = id === undefined ? color : TRACKS[id % TRACKS.length];
		const label = [show.ids && `#${id ?? face + 1}`, show.scores && score.toFixed(2)];
		const box = [...at([x1, y1]), (x2 - x1) * scale, (y2 - y1) * scale];
		return { face, box, shade, label: label.filter(Boolean).join(" ") };
	});
	faces.reverse(); // the best on top
	for (const { face, box, shade } of faces) {
		const side = Math.min(box[2], box[3]);
		if (show.mesh && line.mesh) {
			const size = Math.max(1, side / 75);
			context.fillStyle = MESH;
			for (const [x, y] of line.mesh[face].map(at)) context.fillRect(x - size / 2, y - size / 2, size, size);
		}
		const chosen = face === show.chosen;
		paintBox(context, box, Math.max(1, Math.min(pen, side / 14)) * (chosen ? 1.7 : 1), shade);
		if (show.points && line.landmarks) {
			const radius = Math.max(0.8, Math.min(side / 26, pen * 1.6));
			line.landmarks[face].map(at).forEach((point, index) => dot(context, point, radius, POINTS[index]));
		}
	}
	for (const { box, shade, label } of faces) if (label) paintLabel(context, label, box, pen, shade);
}

/** A thin frame with strong corners; that of a small box is strong all around. */
function paintBox(context, box, pen, color) {
	const [, , width, height] = box;
	const side = Math.min(width, height);
	const arms = 0.44 * side; // of a corner
	const corners = side < 16 * pen ? [] : [arms, width - arms, arms, height - arms];
	context.lineDashOffset = arms / 2;
	for (const [lineWidth, strokeStyle, dash] of [
		[pen * 2.2, HALO, corners],
		[pen * 0.45, color, []],
		[pen * 1.3, color, corners],
	]) {
		Object.assign(context, { lineWidth, strokeStyle });
		context.setLineDash(dash);
		context.strokeRect(...box);
	}
	context.setLineDash([]);
}

function dot(context, point, radius, color) {
	Object.assign(context, { fillStyle: color, strokeStyle: HALO, lineWidth: radius / 3 });
	context.beginPath();
	context.arc(...point, radius, 0, 2 * Math.PI);
	context.fill();
	context.stroke();
}

function paintLabel(context, text, [left, top, room], pen, color) {
	const size = Math.max(10, 6 * pen);
	Object.assign(context, { font: `600 ${size}px ${FONT}`, textBaseline: "middle", fillStyle: color });
	const width = context.measureText(text).width + size * 0.8;
	if (room < width * 0.6) return; // it would hide the neighbors
	const height = size * 1.45;
	const x = Math.max(0, left - pen * 0.7);
	const y = top >= height + pen ? top - height - pen : top + pen;
	context.beginPath();
	context.roundRect(x, y, width, height, height / 3.5);
	context.fill();
	context.fillStyle = "#06130d";
	context.fillText(text, x + size * 0.4, y + height * 0.54);
}
