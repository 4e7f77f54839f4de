// The last hour of an index as sparklines.

import { sparkline } from "./charts.js";
import { el, problem } from "./dom.js";
import { bytes, seconds, share, time } from "./format.js";

const rate = (value) => `${value.toFixed(value < 10 ? 1 : 0)}/s`;
const millis = (value) => time(`${value}s`);

/** How to show each number of a point. Those that need searches are not known of an idle step. */
const ROWS = [
  ["Searches", (point) => point.searchesPerSecond ?? 0, rate],
  ["p50", (point) => seconds(point.p50), millis],
  ["p99", (point) => seconds(point.p99), millis],
  ["In flight, all indexes", (point) => point.inFlight ?? 0, String],
  ["Refused", (point) => point.refusedPerSecond ?? 0, rate],
  ["Failed", (point) => point.failedPerSecond ?? 0, rate],
  ["Recall", (point) => point.recall, share, { isClose: true }],
  ["Process memory", (point) => Number(point.residentMemoryBytes ?? 0), bytes],
];

/** The content of a card. */
export function lastHour(history) {
  if (history.error) return [el("h3", {}, "Last hour"), problem(history.error)];
  const points = history.points ?? [];
  const target = points.findLast((point) => point.recallTarget !== undefined)?.recallTarget;
  return [el("h3", {}, span(points.length * (seconds(history.step) ?? 10))),
    el("div", { class: "small" }, ROWS.map(([name, read, format, bounds]) =>
      row(name, points.map(read), format, bounds && { ...bounds, target })))];
}

function span(total) {
  if (!total) return "Last hour: nothing yet";
  if (total >= 3600) return "Last hour";
  return total < 120 ? `Last ${Math.round(total)} s` : `Last ${Math.round(total / 60)} min`;
}

function row(name, values, format, bounds) {
  const last = values.findLast((value) => value !== undefined);
  const isIdle = last !== undefined && values.at(-1) === undefined;
  return el("div", {},
    el("p", {}, el("span", { class: "faint" }, `${name} `), el("strong", {}, last === undefined ? "–" : format(last)),
      el("span", { class: "faint" }, isIdle ? " idle" : "")),
    sparkline(name, values, format, bounds));
}
