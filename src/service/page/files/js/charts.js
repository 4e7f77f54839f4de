// Charts as SVG.

import { el } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function picture(label, width, height, ...children) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label }, ...children);
}

function extent(values, fallback) {
  const found = values.filter(Number.isFinite);
  return found.length ? [Math.min(...found), Math.max(...found)] : fallback;
}

/**
 * A small line of values, oldest first. Missing values are gaps. A value between two gaps is a dot. The lower bound is 0 unless
 * `isClose`: then it is the least value. `target`: a dashed line.
 */
export function sparkline(label, values, format, { isClose = false, target } = {}) {
  const [width, height] = [160, 36];
  const [, most] = extent(values, [0, 1]);
  const [least, highest] = extent([...values, target], [0, 1]);
  const bottom = isClose ? Math.max(0, least - 0.01) : 0;
  const top = highest > bottom ? highest : bottom + 1;
  const x = (at) => (values.length > 1 ? (at / (values.length - 1)) * (width - 6) + 3 : width / 2).toFixed(1);
  const y = (value) => (height - 3 - ((value - bottom) / (top - bottom)) * (height - 7)).toFixed(1);
  const has = (at) => Number.isFinite(values[at]);
  let path = "";
  const dots = [];
  values.forEach((value, at) => {
    if (!has(at)) return;
    path += `${has(at - 1) ? "L" : "M"}${x(at)} ${y(value)}`;
    if (!has(at - 1) && !has(at + 1)) dots.push(svg("circle", { cx: x(at), cy: y(value), r: 2.5, class: "dot" }));
  });
  const last = values.findLast(Number.isFinite);
  const aim = target === undefined ? "" : `, target ${format(target)}`;
  const said = last === undefined ? `${label}: no values` : `${label}: last ${format(last)}, at most ${format(most)}${aim}`;
  const wanted = target === undefined ? [] : [svg("path", { d: `M0 ${y(target)}H${width}`, class: "target" })];
  return picture(said, width, height,
    svg("path", { d: `M0 ${height - 1}H${width}`, class: "axis" }), ...wanted, svg("path", { d: path || "M0 0", class: "line0" }), ...dots);
}

/** Lines of points with a legend. `all`: [{name, points: [[x, y]]}], at most 3. The x axis is logarithmic. */
export function lines(label, xLabel, yLabel, all) {
  const [width, height, left, bottom, top] = [340, 220, 48, 38, 26];
  const points = all.flatMap((line) => line.points);
  const [x0, x1] = extent(points.map(([x]) => Math.log(Math.max(x, 1))), [0, 1]);
  const [y0, y1] = extent(points.map(([, y]) => y), [0, 1]);
  const [low, high] = y1 > y0 ? [y0, y1] : [y0 - 0.01, y1 + 0.01];
  const x = (value) => left + ((Math.log(Math.max(value, 1)) - x0) / (x1 - x0 || 1)) * (width - left - 14);
  const y = (value) => height - bottom - ((value - low) / (high - low)) * (height - bottom - top);
  const text = (content, tx, ty, anchor = "middle") => {
    const node = svg("text", { x: tx, y: ty, "text-anchor": anchor });
    node.textContent = content;
    return node;
  };
  const path = (line) => line.points.map(([px, py], at) => `${at ? "L" : "M"}${x(px).toFixed(1)} ${y(py).toFixed(1)}`).join("");
  const drawn = picture(`${label}: ${all.map((line) => line.name).join(", ")}`, width, height,
    svg("path", { d: `M${left} ${top - 6}V${height - bottom}H${width - 8}`, class: "axis", fill: "none" }),
    ...all.map((line, at) => svg("path", { d: path(line) || "M0 0", class: `line${at}` })),
    text(high.toFixed(3), left - 4, top + 4, "end"), text(low.toFixed(3), left - 4, height - bottom, "end"),
    text(String(Math.round(Math.exp(x0))), left, height - 22), text(String(Math.round(Math.exp(x1))), width - 22, height - 22),
    text(xLabel, width / 2, height - 6), text(yLabel, left + 4, 14, "start"));
  const legend = all.map((line, at) => el("li", {}, el("span", { class: `swatch fill${at}`, "aria-hidden": "true" }), line.name));
  return el("figure", {}, el("figcaption", { class: "faint" }, label), drawn, el("ul", { class: "legend" }, legend));
}
