// Zoom and position, shared by all panes, and the gestures and keys that change them.

const MARGIN = 14;
const MOST_ZOOM = 60;
const STEP = 60; // pixels that an arrow key moves
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/**
 * What is seen of a picture: `zoom` relative to the whole of it, around (x, y) in 0..1.
 * `sizes` are those of a picture and a pane, each with width and height.
 */
export class View {
	constructor(changed) {
		Object.assign(this, { changed, zoom: 1, x: 0.5, y: 0.5 });
	}

	/** Where the picture lies in the pane: {scale, left, top}; and what is in the middle, (x, y). */
	place({ picture, pane }) {
		const fits = ["width", "height"].map((side) => (pane[side] - 2 * MARGIN) / picture[side]);
		const scale = this.zoom * clamp(Math.min(...fits), 1e-3, 4);
		const along = (at, side) => {
			const half = pane[side] / 2 / (picture[side] * scale);
			return half >= 0.5 ? 0.5 : clamp(at, half, 1 - half);
		};
		const [x, y] = [along(this.x, "width"), along(this.y, "height")];
		const left = pane.width / 2 - x * picture.width * scale;
		return { scale, left, top: pane.height / 2 - y * picture.height * scale, x, y };
	}

	look(zoom, x, y, sizes) {
		Object.assign(this, { zoom: clamp(zoom, 1, MOST_ZOOM), x, y });
		const placed = this.place(sizes);
		Object.assign(this, { x: placed.x, y: placed.y });
		this.changed();
	}

	fit() {
		this.zoom = 1;
		this.changed();
	}

	/** Zoom; what lies at (px, py) of the pane stays there. */
	zoomBy(factor, sizes, px = sizes.pane.width / 2, py = sizes.pane.height / 2) {
		const { picture, pane } = sizes;
		const { scale, left, top } = this.place(sizes);
		const zoom = clamp(this.zoom * factor, 1, MOST_ZOOM);
		const after = (scale * zoom) / this.zoom;
		const x = ((px - left) / scale + (pane.width / 2 - px) / after) / picture.width;
		const y = ((py - top) / scale + (pane.height / 2 - py) / after) / picture.height;
		this.look(zoom, x, y, sizes);
	}

	moveBy(dx, dy, sizes) {
		const { scale, x, y } = this.place(sizes);
		const { width, height } = sizes.picture;
		this.look(this.zoom, x - dx / scale / width, y - dy / scale / height, sizes);
	}

	/** Show a box (x1, y1, x2, y2) of the picture with room around it. */
	showBox([x1, y1, x2, y2], sizes) {
		const { picture, pane } = sizes;
		const side = 2.4 * Math.max(x2 - x1, y2 - y1, 1) * this.place(sizes).scale;
		const zoom = (this.zoom * Math.min(pane.width, pane.height)) / side;
		this.look(zoom, (x1 + x2) / 2 / picture.width, (y1 + y2) / 2 / picture.height, sizes);
	}
}

/**
 * Let a pane's frame be zoomed and moved. `current` gives sizes, or null while there are none; `act`
 * has `pick(px, py)` for a click and `step(by)` for the picture before or after.
 */
export function attach(frame, view, current, act) {
	const pointers = new Map();
	let moved = 0;
	const on = (names, react) => {
		for (const name of names.split(" ")) {
			frame.addEventListener(name, (event) => {
				const sizes = current();
				const { left, top } = frame.getBoundingClientRect();
				if (sizes) react(event, sizes, [event.clientX - left, event.clientY - top]);
			}, { passive: false });
		}
	};

	on("wheel", (event, sizes, point) => {
		const { scrollHeight, clientHeight } = document.scrollingElement;
		if (!event.ctrlKey && scrollHeight > clientHeight) return; // it scrolls the page
		event.preventDefault();
		const speed = (event.deltaMode ? 30 : 1) * (event.ctrlKey ? 0.01 : 0.0018);
		view.zoomBy(Math.exp(-event.deltaY * speed), sizes, ...point);
	});

	on("pointerdown", (event, sizes, point) => {
		if (event.button || event.target.closest("button")) return;
		if (!pointers.size) moved = 0;
		pointers.set(event.pointerId, point);
		frame.setPointerCapture(event.pointerId);
	});

	on("pointermove", ({ pointerId }, sizes, after) => {
		const before = pointers.get(pointerId);
		if (!before) return;
		pointers.set(pointerId, after);
		const [dx, dy] = [after[0] - before[0], after[1] - before[1]];
		moved += Math.hypot(dx, dy);
		const other = [...pointers].find(([id]) => id !== pointerId)?.[1];
		if (other) {
			const apart = ([x, y]) => Math.hypot(x - other[0], y - other[1]) || 1;
			const middle = [(after[0] + other[0]) / 2, (after[1] + other[1]) / 2];
			view.zoomBy(apart(after) / apart(before), sizes, ...middle);
			view.moveBy(dx / 2, dy / 2, sizes);
		} else if (view.zoom > 1) view.moveBy(dx, dy, sizes);
	});

	on("pointerup pointercancel", ({ pointerId, type }, sizes, point) => {
		if (pointers.delete(pointerId) && type === "pointerup" && moved < 6) act.pick(...point);
	});

	on("dblclick", (event, sizes, point) => {
		if (view.zoom > 1) view.fit();
		else view.zoomBy(2.5, sizes, ...point);
	});

	on("keydown", (event, sizes) => {
		if (event.target !== frame || event.ctrlKey || event.altKey || event.metaKey) return;
		const zoom = { "+": 1.4, "=": 1.4, "-": 1 / 1.4 }[event.key];
		const to = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
		if (zoom) view.zoomBy(zoom, sizes);
		else if (event.key === "0" || event.key === "Escape") view.fit();
		else if (to && view.zoom > 1) view.moveBy(to[0] * STEP, to[1] * STEP, sizes);
		else if (to?.[0]) act.step(-to[0]);
		else return;
		event.preventDefault();
	});
}
