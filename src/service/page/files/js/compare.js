// Two generations side by side: how they were built, and what they answer.

import { latest, pathOf, post } from "./api.js";
import { best, line, nearest } from "./calibration.js";
import { lines } from "./charts.js";
import { announce, button, el, field, fill, problem, table } from "./dom.js";
import { bytes, count, date, share, time, word } from "./format.js";

/** Rows of the table: a name, and what a generation has there. Nothing means that it was not measured. */
const ROWS = [
  ["Written or published", (of) => date(of.createdAt)],
  ["Videos", (of) => count(of.vectors)],
  ["Model", (of) => of.embeddingModel || "no name"],
  ["Metric", (of) => word(of.metric, "METRIC_")],
  ["Codes", (of) => of.codes],
  ["Builder", (of) => of.builder],
  ["m", (of) => String(of.m ?? 0)],
  ["ef_construction", (of) => String(of.efConstruction ?? 0)],
  ["File", (of) => bytes(of.bytes)],
  ["Build time", (of) => time(of.buildTime)],
  ["Best recall, k near 100", (of) => {
    const curve = nearest(of.curves ?? [], 100);
    return curve ? `${share(best(curve).recall)} (k ${curve.k}, ef_search ${best(curve).efSearch})` : "";
  }],
  ["Gate", (of) => (of.gate ? (of.gate.passed ? "passed" : "refused") : "")],
  ["Gate: recall", (of) => (of.gate?.queries ? share(of.gate.recall ?? 0) : "")],
  ["Gate: p99", (of) => time(of.gate?.p99)],
  ["Gate: overlap with the one before", (of) => (of.gate?.current && of.gate.current !== "0" ? share(of.gate.overlap ?? 0) : "")],
];

/** A part of the page that compares two generations of an index. `set` gives it all of them. */
export function comparison(index, signal) {
  const [one, two] = [el("select"), el("select")];
  const [sheet, answers] = [el("div"), el("div")];
  let [sound, shadow] = [[], undefined];
  const next = latest(signal);
  const pair = () => [one.value, two.value].map((number) => sound.find((of) => of.generation === number));
  const draw = () => {
    next();
    fill(answers);
    if (!pair().includes(undefined)) fill(sheet, built(pair()), live(pair(), shadow));
  };
  const ask = async () => {
    const now = next();
    const [generation, candidate] = [one.value, two.value];
    fill(answers, el("p", {}, "Searching in both …"));
    try {
      if (generation === candidate) throw new Error("Choose two different generations.");
      const answer = await post(`${pathOf(index)}/generations:compare`, { generation, candidate, k: 100, searches: 50 }, now);
      fill(answers, compared(answer));
      announce("The answers are compared.");
    } catch (error) {
      if (!now.aborted) fill(answers, problem(error));
    }
  };
  one.addEventListener("change", draw);
  two.addEventListener("change", draw);
  const row = el("div", { class: "row" }, field("First", one), field("Second", two), button("Compare answers", ask));
  const element = el("details", { class: "card", hidden: true }, el("summary", {}, "Compare two"), row, answers, sheet);
  return {
    element,
    set: (all, now) => {
      const before = JSON.stringify([sound, shadow]);
      [sound, shadow] = [all.filter((of) => !of.problem), now];
      element.hidden = sound.length < 2;
      if (JSON.stringify([sound, shadow]) === before) return;
      choose(sound, one, two);
      draw();
    },
  };
}

/** Offers the generations: first the one that serves, and the newest other one. A choice stays. */
function choose(sound, one, two) {
  const serving = sound.find((of) => of.serves) ?? sound.at(-1);
  const other = sound.findLast((of) => of !== serving);
  for (const [control, fallback] of [[one, serving], [two, other]]) {
    const before = control.value;
    fill(control, sound.map((of) => el("option", { value: of.generation }, of.generation)));
    control.value = sound.some((of) => of.generation === before) ? before : fallback?.generation ?? "";
  }
}

function built(pair) {
  const rows = ROWS.map(([name, read]) => [name, ...pair.map((of) => read(of) || "not measured")]);
  const drawn = pair.flatMap((of) => {
    const curve = nearest(of.curves ?? [], 100);
    return curve ? [line(`Generation ${of.generation}, k ${curve.k}`, curve)] : [];
  });
  return el("div", { class: "cards three" },
    table("Two generations", ["Property", ...pair.map((of) => `Generation ${of.generation}`)], rows, true),
    drawn.length ? lines("Recall of both against effort", "ef_search", "recall", drawn) : null);
}

function live(pair, shadow) {
  if (!shadow || !pair.some((of) => of.generation === shadow.candidate?.generation)) return null;
  const heads = ["k", "Overlap", "Score gap", "Recall", "Candidate", "p99", "Candidate p99"];
  const rows = (shadow.comparisons ?? []).map((of) => [
    of.k ?? 0, share(of.overlap ?? 0), (of.scoreGap ?? 0).toPrecision(3), share(of.recall), share(of.candidateRecall),
    time(of.p99), time(of.candidateP99),
  ]);
  return table("Live searches repeated on the candidate", heads, rows);
}

function compared({ generation, candidate, source, comparison: of = {} }) {
  // Zeros are left out of answers.
  const recall = (value) => (of.exactAnswers ? share(value ?? 0) : "not measured");
  const or = (text) => text || "not measured";
  const heads = ["Measure", `Generation ${generation}`, `Generation ${candidate}`];
  return [
    el("p", {}, `${of.answers ?? 0} searches for ${of.k ?? 0} candidates, of ${source}; `
      + `${of.exactAnswers ?? 0} compared with exact answers.`),
    el("p", {}, `Overlap ${share(of.overlap ?? 0)}: the share of the candidates that both have. `
      + `Score gap ${(of.scoreGap ?? 0).toPrecision(3)}: above 0 if those of generation ${generation} are better.`),
    table("Answers of both", heads, [
      ["Recall", recall(of.recall), recall(of.candidateRecall)],
      ["p50", or(time(of.p50)), or(time(of.candidateP50))],
      ["p99", or(time(of.p99)), or(time(of.candidateP99))],
    ], true),
  ];
}
