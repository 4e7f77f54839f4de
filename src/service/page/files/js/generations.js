// The generations of an index: how they were built and measured, and which one serves.

import { get, of, post } from "./api.js";
import { lines } from "./charts.js";
import { announce, confirmed, el, facts, fill, problem, table } from "./dom.js";
import { bytes, count, date, share, time, word } from "./format.js";

export async function show(root, index, signal) {
  const body = el("div");
  root.append(el("h1", {}, "Generations"), body);
  const look = async () => {
    const [listed, status] = await Promise.all([get(`${of(index)}/generations`), get(of(index))]);
    if (!signal.aborted) fill(body, screen(index, listed.generations ?? [], status.indexes?.[0] ?? {}, look));
  };
  await look();
}

function screen(index, all, status, look) {
  const result = el("div", { "aria-live": "polite" });
  const run = async (what, path, request) => {
    fill(result, el("p", {}, `${what} …`));
    try {
      await post(`${of(index)}:${path}`, request);
      announce(`${what}: done`);
      await look();
    } catch (error) {
      fill(result, problem(error));
    }
  };
  const activate = async (generation, force) => {
    const question = `Searches are answered from generation ${generation} as soon as it is checked. Searches in flight end on the old one.`;
    if (await confirmed(`Activate generation ${generation}?`, question, "Activate")) run(`Activating generation ${generation}`, "activate", { generation, force });
  };
  const rebuild = status.rebuild ?? {};
  const isRunning = ["STATE_RUNNING", "STATE_GATING"].includes(rebuild.state);
  return [
    el("div", { class: "row" },
      el("button", { type: "button", class: "primary", disabled: isRunning, onclick: () => run("Starting a rebuild", "rebuild", {}) }, "Rebuild"),
      el("button", { type: "button", disabled: !isRunning, onclick: () => run("Cancelling the rebuild", "cancelRebuild", {}) }, "Cancel the rebuild"),
      el("button", { type: "button", onclick: look }, "Refresh"),
      el("span", {}, `Rebuild: ${word(rebuild.state, "STATE_") || "idle"}${rebuild.phase ? `, ${rebuild.phase} ${Math.round((rebuild.progress ?? 0) * 100)} %` : ""}`)),
    result,
    all.length > 1 ? compare(all, status) : null,
    ...all.toReversed().map((generation) => card(generation, activate)),
  ];
}

function card(of, activate) {
  const title = `Generation ${of.generation}${of.serves ? " (serves)" : ""}`;
  if (of.problem) return el("section", {}, el("h2", {}, title), el("p", { class: "bad" }, of.problem));
  const refused = of.gate && !of.gate.passed;
  return el("section", { "aria-label": title },
    el("h2", {}, title),
    el("div", { class: "cards" },
      el("div", { class: "card" }, facts([
        ["Made current", of.reason ? `${date(of.createdAt)} by ${of.reason}` : `never; written ${date(of.createdAt)}`],
        ["Videos", count(of.vectors)], ["Embeddings", `${of.dim} × ${word(of.dtype, "DTYPE_")}, ${word(of.metric, "METRIC_")}, codes ${of.codes}`],
        ["Graph", `${of.builder}, m ${of.m}, ef_construction ${of.efConstruction}`], ["File", bytes(of.bytes)],
        ["Build", time(of.buildTime)], ["Model", of.embeddingModel], ["Writes up to", count(of.logSequence)],
      ]),
      (of.phases ?? []).length ? el("details", {}, el("summary", {}, "Phases of the build"),
        table("Phases", ["Phase", "Time"], of.phases.map((phase) => [phase.name, time(phase.time)]))) : null),
      el("div", { class: "card" }, el("h3", {}, "Quality gate"), gate(of.gate)),
      el("div", { class: "card" }, el("h3", {}, "Calibration"), curves(of.curves ?? []))),
    of.serves ? null : el("div", { class: "row" },
      el("button", { type: "button", onclick: () => activate(of.generation, false) }, `Activate ${of.generation}`),
      refused ? el("button", { type: "button", class: "danger", onclick: () => activate(of.generation, true) }, "Activate in spite of the gate") : null));
}

function gate(report) {
  if (!report) return el("p", { class: "faint" }, "It was not measured.");
  return el("div", {},
    el("p", { class: report.passed ? "good" : "bad" }, report.passed ? "Passed" : "Refused"),
    (report.problems ?? []).map((text) => el("p", { class: "bad" }, text)),
    facts([
      ["Measured", date(report.createdAt)], ["With", report.queries ? `${report.queries} ${report.source}` : report.source],
      [`Recall@${report.k ?? 0}`, report.queries ? share(report.recall) : ""], ["Recall before", share(report.currentRecall)],
      ["Overlap", share(report.overlap)], ["p99", time(report.p99)], ["p99 before", time(report.currentP99)],
    ]));
}

function curves(all) {
  if (!all.length) return el("p", { class: "faint" }, "It is not calibrated.");
  const drawn = all.map((curve) => ({ name: `k ${curve.k}`, points: (curve.points ?? []).map((point) => [point.efSearch, point.recall ?? 0]) }));
  const rows = all.map((curve) => {
    const best = (curve.points ?? []).at(-1) ?? {};
    return [curve.k, share(best.recall), best.efSearch ?? 0];
  });
  return el("div", {}, lines("Recall against effort", "ef_search", "recall", drawn.slice(0, 4)),
    table("Best recall by k", ["k", "Recall", "ef_search"], rows));
}

function compare(all, status) {
  const sound = all.filter((of) => !of.problem);
  const options = (chosen) => sound.map((of) => el("option", { value: of.generation, selected: of.generation === chosen }, of.generation));
  const serving = sound.find((of) => of.serves) ?? sound.at(-1);
  const other = sound.findLast((of) => of !== serving) ?? serving;
  const one = el("select", {}, options(serving?.generation));
  const two = el("select", {}, options(other?.generation));
  const result = el("div", { "aria-live": "polite" });
  const draw = () => {
    const pair = [one.value, two.value].map((number) => sound.find((of) => of.generation === number));
    if (pair.includes(undefined)) return;
    const row = (name, read) => [name, ...pair.map((of) => read(of) ?? "")];
    const at100 = (of) => (of.curves ?? []).find((curve) => curve.k === 100) ?? (of.curves ?? [])[0];
    const drawn = pair.flatMap((of) => {
      const curve = at100(of);
      return curve ? [{ name: `generation ${of.generation}`, points: (curve.points ?? []).map((point) => [point.efSearch, point.recall ?? 0]) }] : [];
    });
    const shadow = status.shadow;
    const isOfPair = shadow && pair.some((of) => of.generation === shadow.candidate?.generation);
    fill(result,
      table("Two generations", ["", ...pair.map((of) => `Generation ${of.generation}`)], [
        row("Videos", (of) => count(of.vectors)), row("File", (of) => bytes(of.bytes)), row("Build", (of) => time(of.buildTime)),
        row("Gate: recall", (of) => share(of.gate?.recall)), row("Gate: p99", (of) => time(of.gate?.p99)),
        row("Gate: overlap with the one before", (of) => share(of.gate?.overlap)),
      ]),
      drawn.length ? lines("Recall of both against effort", "ef_search", "recall", drawn) : null,
      isOfPair ? table("Live searches repeated on the candidate", ["k", "Overlap", "Score gap", "Recall", "Candidate", "p99", "Candidate"],
        (shadow.comparisons ?? []).map((of) => [of.k ?? 0, share(of.overlap), share(of.scoreGap ?? 0), share(of.recall), share(of.candidateRecall), time(of.p99), time(of.candidateP99)])) : null);
  };
  one.addEventListener("change", draw);
  two.addEventListener("change", draw);
  draw();
  return el("details", { class: "card" }, el("summary", {}, "Compare two"),
    el("div", { class: "row" }, el("label", {}, "First", one), el("label", {}, "Second", two)), result);
}
