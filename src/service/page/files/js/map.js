// A picture of the catalog in two dimensions, with the last query and its candidates.

import { get, of, post } from "./api.js";
import { el, field, fill, problem } from "./dom.js";
import { id } from "./format.js";
import { last } from "./try.js";

const HUES = [212, 28, 130, 340, 265, 175, 50, 300, 95, 0];

export async function show(root, index, signal) {
  const status = (await get(of(index))).indexes?.[0] ?? {};
  const keywords = (status.attributes ?? []).filter((attribute) => /KEYWORD|BOOL/.test(attribute.kind));
  const color = el("select", {}, el("option", { value: "" }, "Nothing"), keywords.map((of) => el("option", { value: of.name }, of.name)));
  const points = el("select", {}, ["2000", "5000", "20000"].map((count) => el("option", { value: count, selected: count === "5000" }, count)));
  const canvas = el("canvas", { tabindex: "0", role: "img", "aria-label": "Map of the catalog" });
  const tip = el("div", { class: "tip", hidden: true });
  const legend = el("ul", { class: "legend" });
  const said = el("p", { role: "status" });
  const view = { x: 0, y: 0, zoom: 1 };
  const state = { map: undefined, colors: new Map(), marks: [] };
  const redraw = () => draw(canvas, state, view);
  const zoom = (factor) => { view.zoom = Math.min(200, Math.max(0.5, view.zoom * factor)); redraw(); };
  const move = (dx, dy) => { view.x += dx / view.zoom; view.y += dy / view.zoom; redraw(); };
  const load = async () => {
    said.textContent = "Loading …";
    try {
      const map = await post(`${of(index)}:map`, { points: Number(points.value), colorBy: color.value });
      if (signal.aborted) return;
      state.map = map;
      state.colors = palette(map.colors ?? []);
      state.marks = await marks(index, map);
      fill(legend, [...state.colors].map(([name, css]) => {
        const swatch = el("span", { class: "swatch", "aria-hidden": "true" });
        swatch.style.background = css;
        return el("li", {}, swatch, name || "no value");
      }));
      const candidates = state.marks.length ? ` The last search and ${state.marks.length} of its points are marked.` : "";
      said.textContent = `${map.x?.length ?? 0} videos of generation ${map.generation}, at the two directions in which embeddings vary most.${candidates}`;
      redraw();
    } catch (error) {
      said.textContent = "";
      fill(legend, el("li", {}, problem(error)));
    }
  };
  color.addEventListener("change", load);
  points.addEventListener("change", load);
  listen(canvas, tip, state, view, { zoom, move });
  const button = (label, name, act) => el("button", { type: "button", "aria-label": name, onclick: act }, label);
  root.append(el("h1", {}, "Map"),
    el("div", { class: "row" }, field("Color by", color), field("Videos", points),
      button("+", "Zoom in", () => zoom(1.5)), button("−", "Zoom out", () => zoom(1 / 1.5)),
      button("Whole", "Show the whole map", () => { Object.assign(view, { x: 0, y: 0, zoom: 1 }); redraw(); })),
    said, el("div", { class: "map" }, canvas, tip), legend);
  const resized = new ResizeObserver(redraw);
  resized.observe(canvas);
  signal.addEventListener("abort", () => resized.disconnect());
  await load();
}

/** A color for each of the most frequent values; the others share one. */
function palette(values) {
  const counts = new Map();
  values.forEach((value) => counts.set(value, (counts.get(value) ?? 0) + 1));
  const frequent = [...counts].sort((one, other) => other[1] - one[1]).slice(0, HUES.length).map(([value]) => value);
  return new Map(frequent.map((value, at) => [value, `hsl(${HUES[at]} 65% 50%)`]));
}

/** The places of the last query and its candidates. */
async function marks(index, map) {
  const { mean = [], first = [], second = [] } = map.axes ?? {};
  const place = (vector, name) => ({
    name,
    x: vector.reduce((sum, value, at) => sum + (first[at] ?? 0) * (value - (mean[at] ?? 0)), 0),
    y: vector.reduce((sum, value, at) => sum + (second[at] ?? 0) * (value - (mean[at] ?? 0)), 0),
  });
  const found = [];
  if (last.query) found.push({ ...place(last.query, "the query"), isQuery: true });
  const ids = last.candidates.slice(0, 100);
  if (ids.length) {
    const field = ids.every((text) => /^\d+$/.test(text)) ? "videoIds" : "textIds";
    const answer = await post(`${of(index)}/videos:get`, { [field]: ids, returnVectors: true }).catch(() => ({}));
    for (const lookup of answer.results ?? []) {
      if (lookup.video?.vector?.values) found.push(place(lookup.video.vector.values, `candidate ${id(lookup.video)}`));
    }
  }
  return found;
}

/** From places on the plane to pixels of the canvas. */
function scale(canvas, { map }, view) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const range = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  const [x0, x1] = range(map.x ?? [0, 1]);
  const [y0, y1] = range(map.y ?? [0, 1]);
  const size = Math.min((width - 20) / (x1 - x0 || 1), (height - 20) / (y1 - y0 || 1)) * view.zoom;
  return {
    x: (value) => width / 2 + (value - (x0 + x1) / 2) * size + view.x * view.zoom,
    y: (value) => height / 2 - (value - (y0 + y1) / 2) * size + view.y * view.zoom,
  };
}

function draw(canvas, state, view) {
  if (!state.map) return;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const text = getComputedStyle(canvas).color;
  const { x, y } = scale(canvas, state, view);
  const { map, colors, marks } = state;
  (map.x ?? []).forEach((_, at) => {
    pen.globalAlpha = 0.7;
    pen.fillStyle = colors.get(map.colors?.[at]) ?? (map.colors ? "hsl(0 0% 55%)" : "hsl(212 65% 50%)");
    pen.fillRect(x(map.x[at]) - 1.5, y(map.y[at]) - 1.5, 3, 3);
  });
  pen.globalAlpha = 1;
  for (const mark of marks) {
    pen.strokeStyle = text;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(x(mark.x), y(mark.y), mark.isQuery ? 8 : 5, 0, 2 * Math.PI);
    pen.stroke();
    if (mark.isQuery) pen.strokeText("query", x(mark.x) + 10, y(mark.y) + 4);
  }
}

function listen(canvas, tip, state, view, { zoom, move }) {
  let drag;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
    if (event.key in steps) move(...steps[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else return;
    event.preventDefault();
  });
  canvas.addEventListener("pointerdown", (event) => {
    drag = [event.clientX, event.clientY];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointerup", () => { drag = undefined; });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("pointermove", (event) => {
    if (drag) {
      move(event.clientX - drag[0], event.clientY - drag[1]);
      drag = [event.clientX, event.clientY];
      return;
    }
    hover(canvas, tip, state, view, event);
  });
}

/** Names the nearest video. */
function hover(canvas, tip, state, view, event) {
  const { map } = state;
  if (!map?.x) return;
  const box = canvas.getBoundingClientRect();
  const { x, y } = scale(canvas, state, view);
  const [px, py] = [event.clientX - box.left, event.clientY - box.top];
  let [best, at] = [144, -1];
  map.x.forEach((_, point) => {
    const distance = (x(map.x[point]) - px) ** 2 + (y(map.y[point]) - py) ** 2;
    if (distance < best) [best, at] = [distance, point];
  });
  tip.hidden = at < 0;
  if (at < 0) return;
  tip.textContent = [map.textIds?.[at] || map.videoIds[at], map.colors?.[at]].filter(Boolean).join(" · ");
  tip.style.left = `${Math.min(px + 12, canvas.clientWidth - 120)}px`;
  tip.style.top = `${py + 12}px`;
}
