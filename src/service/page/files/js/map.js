// A picture of the catalog in two dimensions, with the last search and its candidates.

import { keep, link, read } from "./address.js";
import { latest, pathOf, post } from "./api.js";
import { button, el, field, fill, problem } from "./dom.js";
import { recall } from "./last.js";
import { marksOf } from "./marks.js";
import { controls } from "./pointer.js";
import { draw, OTHER, palette } from "./plot.js";

const COUNTS = ["2000", "5000", "20000"];
const KEYS = "Arrows move the map, + and − zoom. A click on a point opens the video.";
const USUAL = "5000";
/** Kinds of attributes with values that repeat. */
const KINDS = ["ATTRIBUTE_KIND_KEYWORD", "ATTRIBUTE_KIND_KEYWORD_LIST", "ATTRIBUTE_KIND_BOOL"];

export async function show(root, index, signal) {
  const { color, points } = settings(index);
  const canvas = el("canvas", { tabindex: "0", role: "application", "aria-label": "Map of the catalog", "aria-describedby": "map-keys" });
  const tip = el("div", { class: "tip", hidden: true });
  const [legend, said, marked] = [el("ul", { class: "legend" }), el("p", { role: "status" }), el("div")];
  const state = { map: {}, colors: new Map(), marks: [] };
  const address = (video) => link("catalog", { index: index.name, id: video });
  const view = controls(canvas, tip, state, (now) => draw(canvas, state, now), (video) => { location.hash = address(video); });
  const next = latest(signal);
  const load = async () => {
    const now = next();
    said.textContent = "Loading …";
    fill(marked);
    keep({ color: color.value, points: points.value === USUAL ? "" : points.value });
    try {
      const map = await post(`${pathOf(index)}:map`, { points: Number(points.value), colorBy: color.value }, now);
      Object.assign(state, { map, colors: palette(map.colors ?? []), marks: [] });
      fill(legend, key(state));
      view.redraw();
      said.textContent = status(state);
      await markSearch(index, state, { said, marked, address, redraw: view.redraw }, now);
    } catch (error) {
      if (now.aborted) return;
      said.textContent = "";
      fill(marked, problem(error, load));
    }
  };
  for (const control of [color, points]) control.addEventListener("change", load);
  redrawWhenNeeded(canvas, view.redraw, signal);
  root.append(el("h1", {}, "Map"), bar(color, points, view), said, el("div", { class: "map" }, canvas, tip),
    el("p", { id: "map-keys", class: "faint" }, KEYS), legend, marked);
  await load();
}

/** Marks the last search. Without marks, the map is of use all the same. */
async function markSearch(index, state, { said, marked, address, redraw }, now) {
  try {
    state.marks = await marksOf(index, state.map.axes ?? {}, recall(index), now);
    said.textContent = status(state);
    fill(marked, list(state.marks, address));
    redraw();
  } catch (error) {
    if (!now.aborted) fill(marked, problem(error));
  }
}

/** What to color by, and how many videos to show, as in the address. */
function settings(index) {
  const { values } = read();
  const select = (all, chosen) => el("select", {}, all.map(([value, label]) => el("option", { value, selected: value === chosen }, label)));
  const named = (index.attributes ?? []).filter((of) => KINDS.includes(of.kind) && of.name !== "video_id");
  return {
    color: select([["", "Nothing"], ...named.map((of) => [of.name, of.name])], values.get("color") ?? ""),
    points: select(COUNTS.map((count) => [count, count]), values.get("points") ?? USUAL),
  };
}

function bar(color, points, view) {
  return el("div", { class: "row" }, field("Color by", color), field("Videos", points),
    button("+", () => view.zoom(1.5), { "aria-label": "Zoom in" }), button("−", () => view.zoom(1 / 1.5), { "aria-label": "Zoom out" }),
    button("Reset view", view.reset));
}

/** The picture depends on the size of the canvas, and its colors on the theme. */
function redrawWhenNeeded(canvas, redraw, signal) {
  const resized = new ResizeObserver(redraw);
  resized.observe(canvas);
  signal.addEventListener("abort", () => resized.disconnect());
  document.addEventListener("themechange", redraw, { signal });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw, { signal });
}

function status({ map, marks }) {
  const count = (kind) => marks.filter((mark) => mark.kind === kind).length;
  const words = [["query", "query"], ["seed", "seed"], ["interest", "interest"], ["candidate", "candidate"]]
    .map(([kind, word]) => [count(kind), word]).filter(([number]) => number)
    .map(([number, word]) => `${number} ${number === 1 ? word : word === "query" ? "queries" : `${word}s`}`);
  const last = words.length ? ` Of the last search, ${words.join(", ")} are marked.` : "";
  return `${map.x?.length ?? 0} videos of generation ${map.generation}, at the two directions in which embeddings vary most.${last}`;
}

function key({ map, colors }) {
  const entry = (css, name) => {
    const swatch = el("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.background = css;
    return el("li", {}, swatch, name || "no value");
  };
  const isWhole = (map.colors ?? []).every((value) => colors.has(value));
  return [...[...colors].map(([name, css]) => entry(css, name)), isWhole ? null : entry(OTHER, "other")];
}

/** What is marked, as links: it can be reached without a pointer. */
function list(marks, address) {
  const linked = marks.filter((mark) => mark.video);
  if (!linked.length) return null;
  return el("details", {}, el("summary", {}, "What is marked"),
    el("ul", { class: "legend" }, linked.map((mark) => el("li", {}, el("a", { href: address(mark.video) }, mark.name)))));
}
