// The calibration of a generation: recall against effort, one curve for each k that was measured.

import { lines } from "./charts.js";
import { el, table } from "./dom.js";
import { share } from "./format.js";

/** The curve of the k nearest to one; undefined without curves. */
export const nearest = (all, k) => all.toSorted((one, other) => Math.abs(Math.log(one.k / k)) - Math.abs(Math.log(other.k / k)))[0];

/** A line of a chart. */
export const line = (name, curve) => ({ name, points: (curve.points ?? []).map((point) => [point.efSearch, point.recall ?? 0]) });

/** The most effort of a curve, and its recall. */
export const best = (curve) => curve.points?.at(-1) ?? {};

/** A chart of three of the curves, and a table of all. */
export function curves(all) {
  if (!all.length) return el("p", { class: "faint" }, "It is not calibrated.");
  const chosen = [...new Set([10, 100, 500].map((k) => nearest(all, k)))];
  const rows = all.map((curve) => [curve.k, share(best(curve).recall), best(curve).efSearch ?? 0]);
  return [
    lines("Recall against effort", "ef_search", "recall", chosen.map((curve) => line(`k ${curve.k}`, curve))),
    el("details", {}, el("summary", {}, "Best recall by k"), table("Best recall by k", ["k", "Recall", "ef_search"], rows)),
  ];
}
