// Zoom and position, shared by all panes, and the gestures and keys that change them.

const MARGIN = 14;
const MOST_ZOOM = 60;
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** What is seen of a picture: `zoom` relative to the whole of it, around (x, y) in 0..1. */
export class View {
  constructor(changed) {
    this.changed = changed;
    this.zoom = 1;
    this.x = this.y = 0.5;
  }

  /** Where a picture lies in a pane (both have width and height): {scale, left, top}. */
  place(picture, pane) {
    const across = (pane.width - 2 * MARGIN) / picture.width;
    const fit = Math.max(1e-3, Math.min(across, (pane.height - 2 * MARGIN) / picture.height, 4));
    const scale = fit * this.zoom;
    const along = (at, size, room) => {
      const half = room / 2 / (size * scale);
      return half >= 0.5 ? 0.5 : clamp(at, half, 1 - half);
    };
    const x = along(this.x, picture.width, pane.width);
    const y = along(this.y, picture.height, pane.height);
    const left = pane.width / 2 - x * picture.width * scale;
    return { scale, left, top: pane.height / 2 - y * picture.height * scale, x, y };
  }

  fit() {
    this.zoom = 1;
    this.x = this.y = 0.5;
    this.changed();
  }

  /** Zoom by a factor; what lies at (px, py) of the pane stays there. */
  zoomBy(factor, picture, pane, px = pane.width / 2, py = pane.height / 2) {
    const before = this.place(picture, pane);
    const x = (px - before.left) / before.scale;
    const y = (py - before.top) / before.scale;
    this.zoom = clamp(this.zoom * factor, 1, MOST_ZOOM);
    const { scale } = this.place(picture, pane);
    this.x = (x + (pane.width / 2 - px) / scale) / picture.width;
    this.y = (y + (pane.height / 2 - py) / scale) / picture.height;
    this.settle(picture, pane);
  }

  moveBy(dx, dy, picture, pane) {
    const { scale, x, y } = this.place(picture, pane);
    this.x = x - dx / scale / picture.width;
    this.y = y - dy / scale / picture.height;
    this.settle(picture, pane);
  }

  /** Show a box (x1, y1, x2, y2) of the picture with room around it. */
  showBox([x1, y1, x2, y2], picture, pane) {
    const fit = this.place(picture, pane).scale / this.zoom;
    const side = 3.2 * Math.max(x2 - x1, y2 - y1, 1);
    this.zoom = clamp(Math.min(pane.width, pane.height) / side / fit, 1, MOST_ZOOM);
    this.x = (x1 + x2) / 2 / picture.width;
    this.y = (y1 + y2) / 2 / picture.height;
    this.settle(picture, pane);
  }

  settle(picture, pane) {
    const { x, y } = this.place(picture, pane);
    this.x = x;
    this.y = y;
    this.changed();
  }
}

/**
 * Let a pane's frame be zoomed and moved. `current` gives {picture, pane} sizes or null; `act` has
 * `pick(px, py)` for a click and `step(by)` for the picture before or after.
 */
export function attach(frame, view, current, act) {
  const pointers = new Map();
  let moved = 0;
  const at = (event) => {
    const box = frame.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  frame.addEventListener("wheel", (event) => {
    const page = document.scrollingElement;
    const now = current();
    if (!now || (!event.ctrlKey && page.scrollHeight > page.clientHeight + 1)) return;
    event.preventDefault();
    const lines = event.deltaMode ? 30 : 1;
    const { x, y } = at(event);
    const factor = Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0018));
    view.zoomBy(factor, now.picture, now.pane, x, y);
  }, { passive: false });

  frame.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest("button")) return;
    pointers.set(event.pointerId, at(event));
    frame.setPointerCapture(event.pointerId);
    if (pointers.size === 1) moved = 0;
  });

  frame.addEventListener("pointermove", (event) => {
    const now = current();
    const before = pointers.get(event.pointerId);
    if (!now || !before) return;
    const after = at(event);
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    pointers.set(event.pointerId, after);
    moved += Math.hypot(after.x - before.x, after.y - before.y);
    if (others.length) {
      const [other] = others;
      const apart = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
      const middle = { x: (after.x + other.x) / 2, y: (after.y + other.y) / 2 };
      view.zoomBy(apart(after) / apart(before), now.picture, now.pane, middle.x, middle.y);
      view.moveBy((after.x - before.x) / 2, (after.y - before.y) / 2, now.picture, now.pane);
    } else if (view.zoom > 1) {
      view.moveBy(after.x - before.x, after.y - before.y, now.picture, now.pane);
    }
  });

  const release = (event) => {
    const point = pointers.get(event.pointerId);
    pointers.delete(event.pointerId);
    if (point && event.type === "pointerup" && moved < 6) act.pick(point.x, point.y);
  };
  frame.addEventListener("pointerup", release);
  frame.addEventListener("pointercancel", release);

  frame.addEventListener("dblclick", (event) => {
    const now = current();
    const { x, y } = at(event);
    if (!now) return;
    if (view.zoom > 1) view.fit();
    else view.zoomBy(2.5, now.picture, now.pane, x, y);
  });

  const STEP = 60;
  const arrows = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  frame.addEventListener("keydown", (event) => {
    const now = current();
    if (!now || event.target !== frame || event.ctrlKey || event.altKey || event.metaKey) return;
    const zoom = { "+": 1.4, "=": 1.4, "-": 1 / 1.4, _: 1 / 1.4 }[event.key];
    const arrow = arrows[event.key];
    if (zoom) view.zoomBy(zoom, now.picture, now.pane);
    else if (event.key === "0" || event.key === "Escape") view.fit();
    else if (arrow && view.zoom > 1) {
      view.moveBy(arrow[0] * STEP, arrow[1] * STEP, now.picture, now.pane);
    } else if (arrow?.[0]) act.step(-arrow[0]);
    else return;
    event.preventDefault();
  });
}
