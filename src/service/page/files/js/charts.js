// Charts as SVG.

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function extent(values, fallback) {
  const found = values.filter(Number.isFinite);
  return found.length ? [Math.min(...found), Math.max(...found)] : fallback;
}

/** A small line of values, oldest first. Missing values are gaps. */
export function sparkline(label, values, format) {
  const [width, height] = [160, 36];
  const [, most] = extent(values, [0, 1]);
  const top = most > 0 ? most : 1;
  const x = (at) => (values.length > 1 ? (at / (values.length - 1)) * (width - 2) + 1 : width / 2);
  const y = (value) => height - 2 - (value / top) * (height - 6);
  let path = "";
  let isDown = false;
  values.forEach((value, at) => {
    if (!Number.isFinite(value)) { isDown = false; return; }
    path += `${isDown ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    isDown = true;
  });
  const last = values.findLast(Number.isFinite);
  const said = last === undefined ? `${label}: no values` : `${label}: now ${format(last)}, at most ${format(most)}`;
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": said },
    svg("path", { d: `M0 ${height - 1}H${width}`, class: "axis" }), svg("path", { d: path || "M0 0", class: "line0" }));
}

/** Lines of points. `lines`: [{name, points: [[x, y]]}]. The x axis is logarithmic. */
export function lines(label, xLabel, yLabel, all) {
  const [width, height, left, bottom] = [420, 220, 44, 34];
  const points = all.flatMap((line) => line.points);
  const [x0, x1] = extent(points.map(([x]) => Math.log(Math.max(x, 1))), [0, 1]);
  const [y0, y1] = extent(points.map(([, y]) => y), [0, 1]);
  const [low, high] = y1 > y0 ? [y0, y1] : [y0 - 0.01, y1 + 0.01];
  const x = (value) => left + ((Math.log(Math.max(value, 1)) - x0) / (x1 - x0 || 1)) * (width - left - 12);
  const y = (value) => height - bottom - ((value - low) / (high - low)) * (height - bottom - 12);
  const text = (at, [tx, ty], anchor = "middle") => {
    const node = svg("text", { x: tx, y: ty, "text-anchor": anchor });
    node.textContent = at;
    return node;
  };
  const path = (line) => line.points.map(([px, py], at) => `${at ? "L" : "M"}${x(px).toFixed(1)} ${y(py).toFixed(1)}`).join("");
  const said = `${label}. ${all.map((line) => line.name).join(", ")}`;
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": said },
    svg("path", { d: `M${left} 8V${height - bottom}H${width - 8}`, class: "axis", fill: "none" }),
    ...all.map((line, at) => svg("path", { d: path(line) || "M0 0", class: `line${at % 4}` })),
    text(high.toFixed(3), [left - 4, 16], "end"), text(low.toFixed(3), [left - 4, height - bottom], "end"),
    text(String(Math.round(Math.exp(x0))), [left, height - 18]), text(String(Math.round(Math.exp(x1))), [width - 20, height - 18]),
    text(xLabel, [width / 2, height - 4]), text(yLabel, [left + 4, 12], "start"));
}
