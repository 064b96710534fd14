// The list of pictures and the list of faces: options that arrow keys move through.

const THUMB = 72;
const MOST_FACES = 200;

/**
 * Make a list's options a single tab stop, moved by arrow keys. `act` has `choose(option)`, and may
 * have `open(option)` for Enter or a double click and `remove(option)` for Delete.
 */
export function makeListbox(list, act) {
  list.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) act.choose(option);
  });
  list.addEventListener("dblclick", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) act.open?.(option);
  });
  list.addEventListener("keydown", (event) => {
    const option = event.target.closest("[role=option]");
    const to = {
      ArrowRight: option?.nextElementSibling,
      ArrowDown: option?.nextElementSibling,
      ArrowLeft: option?.previousElementSibling,
      ArrowUp: option?.previousElementSibling,
      Home: list.firstElementChild,
      End: list.lastElementChild,
    };
    if (event.key in to) {
      const next = to[event.key];
      if (next && !next.hidden) {
        act.choose(next);
        next.focus();
      }
    } else if (event.key === " ") act.choose(option);
    else if (event.key === "Enter") (act.open ?? act.choose)(option);
    else if (event.key === "Delete") act.remove?.(option);
    else return;
    event.preventDefault();
  });
}

/** Mark the chosen option of a list; it, or else the first, is the tab stop. */
export function mark(list, chosen) {
  const stop = chosen ?? list.firstElementChild;
  for (const option of list.children) {
    option.setAttribute("aria-selected", String(option === chosen));
    option.tabIndex = option === stop ? 0 : -1;
  }
}

/** The option of a picture in the list of pictures. */
export function pictureOption(name) {
  const option = document.createElement("li");
  option.setAttribute("role", "option");
  const thumb = document.createElement("canvas");
  thumb.width = thumb.height = 2 * THUMB;
  const state = document.createElement("span");
  state.className = "state";
  const label = document.createElement("span");
  label.className = "name";
  label.textContent = name;
  option.title = name;
  option.append(thumb, state, label);
  return option;
}

/** Draw the middle of a picture into the option's square. */
export function drawThumb(option, image) {
  const canvas = option.querySelector("canvas");
  const side = Math.min(image.width, image.height);
  const left = (image.width - side) / 2;
  const top = Math.min((image.height - side) / 2, image.height * 0.08); // faces are seldom low
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, left, top, side, side, 0, 0, canvas.width, canvas.height);
}

/** Fill the list of faces with those of a line of results, cut from the picture. */
export function fillFaces(list, line, image) {
  const options = line.scores.slice(0, MOST_FACES).map((score, face) => {
    const option = document.createElement("li");
    option.setAttribute("role", "option");
    option.dataset.face = face;
    const crop = document.createElement("canvas");
    crop.width = crop.height = 2 * 44;
    if (image) drawCrop(crop, image, line.boxes[face], image.width / line.width);
    const [x1, y1, x2, y2] = line.boxes[face];
    const size = `${Math.round(x2 - x1)} × ${Math.round(y2 - y1)}`;
    const number = line.ids?.[face] ?? face + 1;
    option.setAttribute("aria-label", `Face ${number}, score ${score.toFixed(2)}, ${size} pixels`);
    option.append(crop, text("b", score.toFixed(2)), text("small", `#${number}  ${size}`));
    return option;
  });
  list.replaceChildren(...options);
}

/** Show the first `count` faces of the list; gives how many of them the list has no room for. */
export function showFaces(list, count) {
  [...list.children].forEach((option, face) => {
    option.hidden = face >= count;
  });
  return Math.max(0, count - MOST_FACES);
}

/** A square around a box, cut from the picture, fills the canvas. */
function drawCrop(canvas, image, box, scale) {
  const [x1, y1, x2, y2] = box.map((value) => value * scale);
  const side = 1.25 * Math.max(x2 - x1, y2 - y1, 1);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const [left, top] = [(x1 + x2 - side) / 2, (y1 + y2 - side) / 2];
  context.drawImage(image, left, top, side, side, 0, 0, canvas.width, canvas.height);
}

function text(tag, content) {
  const element = document.createElement(tag);
  element.textContent = content;
  return element;
}
