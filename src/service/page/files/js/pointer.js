// Moves and zooms the map, and names what is at the pointer.

import { scale } from "./plot.js";

/** The farthest in pixels that a point is from the pointer and still named. */
const REACH = 12;
/** Pixels that the pointer moves in a click at most. */
const STEADY = 4;

/** Listens to a canvas. `draw(view)` draws it; `open(video)` opens what is clicked. */
export function controls(canvas, tip, state, draw, open) {
  const view = { x: 0, y: 0, zoom: 1 };
  const redraw = () => draw(view);
  /** Zooms so that what is at a place of the canvas stays there. */
  const zoom = (factor, px = canvas.clientWidth / 2, py = canvas.clientHeight / 2) => {
    const [dx, dy] = [px - canvas.clientWidth / 2, py - canvas.clientHeight / 2];
    const before = view.zoom;
    view.zoom = Math.min(200, Math.max(0.5, before * factor));
    view.x += dx / view.zoom - dx / before;
    view.y += dy / view.zoom - dy / before;
    redraw();
  };
  const move = (dx, dy) => {
    view.x += dx / view.zoom;
    view.y += dy / view.zoom;
    redraw();
  };
  const reset = () => {
    Object.assign(view, { x: 0, y: 0, zoom: 1 });
    redraw();
  };
  byKeys(canvas, zoom, move);
  byPointer(canvas, { zoom, move, hover: (place) => name(canvas, tip, nearest(canvas, state, view, place), place), click: (place) => {
    const found = nearest(canvas, state, view, place);
    if (found?.video) open(found.video);
  } });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  return { redraw, zoom, reset };
}

function byKeys(canvas, zoom, move) {
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
    if (event.key in steps) move(...steps[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else return;
    event.preventDefault();
  });
}

function byPointer(canvas, { zoom, move, hover, click }) {
  let drag;
  const placeOf = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15, ...placeOf(event));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    // A second finger would make the map jump between the two.
    if (event.button !== 0 || !event.isPrimary) return;
    drag = { at: placeOf(event), moved: 0 };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!event.isPrimary) return;
    if (drag && drag.moved <= STEADY) click(placeOf(event));
    drag = undefined;
  });
  canvas.addEventListener("pointercancel", () => { drag = undefined; });
  canvas.addEventListener("pointermove", (event) => {
    if (!event.isPrimary) return;
    const place = placeOf(event);
    if (!drag) {
      hover(place);
      return;
    }
    const [dx, dy] = [place[0] - drag.at[0], place[1] - drag.at[1]];
    drag = { at: place, moved: drag.moved + Math.hypot(dx, dy) };
    move(dx, dy);
  });
}

/** The video or mark nearest to a place of the canvas: {text, video}. Marks come first: they lie above. */
function nearest(canvas, { map, marks }, view, [px, py]) {
  const { x, y } = scale(canvas, { map }, view);
  const distance = (at) => (x(at.x) - px) ** 2 + (y(at.y) - py) ** 2;
  let best = REACH ** 2;
  let found;
  for (const mark of marks) {
    if (distance(mark) < best) [best, found] = [distance(mark), { text: mark.name, video: mark.video }];
  }
  if (found) return found;
  (map.x ?? []).forEach((_, at) => {
    const away = distance({ x: map.x[at], y: map.y[at] });
    if (away >= best) return;
    const video = map.textIds?.[at] || map.videoIds[at];
    [best, found] = [away, { text: [video, map.colors?.[at]].filter(Boolean).join(" · "), video }];
  });
  return found;
}

/** Shows the tip next to the pointer and within the canvas. */
function name(canvas, tip, found, [px, py]) {
  canvas.classList.toggle("pointed", Boolean(found?.video));
  tip.hidden = !found;
  if (!found) return;
  tip.textContent = found.text;
  tip.style.left = `${Math.max(0, Math.min(px + 12, canvas.clientWidth - tip.offsetWidth))}px`;
  tip.style.top = `${py + 12 + tip.offsetHeight > canvas.clientHeight ? py - 12 - tip.offsetHeight : py + 12}px`;
}
