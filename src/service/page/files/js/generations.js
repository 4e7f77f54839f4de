// The generations of an index: how they were built and measured, and which one serves.

import { get, pathOf, post } from "./api.js";
import { curves } from "./calibration.js";
import { comparison } from "./compare.js";
import { confirmed } from "./dialog.js";
import { announce, button, el, facts, fill, focusOn, problem, table } from "./dom.js";
import { bytes, count, date, share, time, word } from "./format.js";
import { patch } from "./patch.js";
import { repeat } from "./repeat.js";

/** Milliseconds between two looks while a rebuild runs. */
const PAUSE = 2000;

/** Whether the quality gate refused it. */
const isRefused = ({ gate: report }) => report !== undefined && !report.passed;
const isRunning = ({ state }) => state === "STATE_RUNNING" || state === "STATE_GATING";

export async function show(root, index, signal) {
  const head = el("h1", {}, "Generations");
  const [result, list] = [el("div"), el("div")];
  const compare = comparison(index, signal);
  let all = [];
  const look = async () => {
    const [listed, status] = await Promise.all([get(`${pathOf(index)}/generations`, signal), get(pathOf(index), signal)]);
    if (signal.aborted) return;
    all = listed.generations ?? [];
    const [first = {}] = status.indexes ?? [];
    bar.set(first.rebuild ?? {});
    compare.set(all, first.shadow);
    patch(list, el("div", {}, all.toReversed().map(section)));
  };
  const run = runner({ index, signal, head, result, look });
  const bar = rebuildBar(signal, run, () => look().then(() => fill(result), (error) => fill(result, problem(error))));
  list.addEventListener("click", ({ target }) => {
    if (target.dataset.generation) activate(all.find((of) => of.generation === target.dataset.generation), run, signal);
  });
  root.append(head, bar.element, result, compare.element, list);
  await look();
  repeat(signal, PAUSE, async () => {
    if (!bar.isRunning()) return;
    try {
      const { rebuild = {} } = (await get(pathOf(index), signal)).indexes?.[0] ?? {};
      if (isRunning(rebuild)) {
        bar.set(rebuild);
      } else {
        document.dispatchEvent(new Event("indexchange"));
        await look();
      }
      fill(result);
    } catch (error) {
      if (!signal.aborted && !result.firstChild) fill(result, problem(error), el("p", {}, "Retrying every 2 seconds."));
    }
  });
}

/** Runs methods that change the index: says what is done and what went wrong, and keeps the focus on the page. */
function runner({ index, signal, head, result, look }) {
  return async (what, path, request) => {
    const before = document.activeElement;
    fill(result, el("p", {}, `${what} …`));
    try {
      await post(`${pathOf(index)}:${path}`, request);
      fill(result, el("p", {}, `${what}: done`));
      announce(`${what}: done`);
      document.dispatchEvent(new Event("indexchange"));
      await look().then(() => fill(result), (error) => result.append(problem(error)));
    } catch (error) {
      fill(result, problem(error));
    }
    if (!signal.aborted && (before.disabled || !before.isConnected)) focusOn(head);
  };
}

/** The buttons of rebuilds, and how far one is. */
function rebuildBar(signal, run, refresh) {
  let rebuild = {};
  const start = button("Rebuild", async () => {
    const text = "A generation is built from the one that serves and the writes since. It takes CPU time and memory until it is done.";
    const question = { title: "Build the next generation?", text, action: "Rebuild", isSafe: true };
    if (await confirmed(signal, question)) await run("Starting a rebuild", "rebuild", {});
  }, { class: "primary" });
  const stop = button("Cancel the rebuild", async () => {
    const text = "What is built so far is thrown away. The generation that serves stays.";
    const question = { title: "Cancel the rebuild?", text, action: "Cancel the rebuild" };
    if (await confirmed(signal, question)) await run("Cancelling the rebuild", "cancelRebuild", {});
  });
  const state = el("span");
  const trouble = el("p", { class: "bad" });
  return {
    element: el("div", {}, el("div", { class: "row" }, start, stop, button("Refresh", refresh), state), trouble),
    isRunning: () => isRunning(rebuild),
    set: (now) => {
      const [before, said] = [rebuild, now.phase || word(now.state, "STATE_")];
      if (before.state && (now.state !== before.state || now.phase !== before.phase)) announce(`Rebuild: ${said}`);
      rebuild = now;
      start.disabled = isRunning(now);
      stop.disabled = !isRunning(now);
      const progress = now.phase ? `, ${now.phase} ${Math.round((now.progress ?? 0) * 100)} %` : "";
      state.textContent = `Rebuild: ${word(now.state, "STATE_") || "idle"}${progress}`;
      trouble.textContent = now.problem ?? "";
    },
  };
}

async function activate(generation, run, signal) {
  const { generation: number, gate: report } = generation;
  const force = isRefused(generation);
  const question = `Searches are answered from generation ${number} as soon as it is checked. Searches in flight end on the old one.`;
  const reasons = force ? ["The quality gate refused it:", ...report.problems ?? []] : [];
  const title = force ? `Activate generation ${number} despite the gate?` : `Activate generation ${number}?`;
  const asked = await confirmed(signal, { title, text: [...reasons, question], action: "Activate", isSafe: !force });
  if (asked) await run(`Activating generation ${number}`, "activate", { generation: number, force });
}

function section(of) {
  const title = `Generation ${of.generation}${of.serves ? " (serves)" : ""}`;
  const label = isRefused(of) ? `Activate ${of.generation} despite the gate` : `Activate ${of.generation}`;
  const properties = { type: "button", class: isRefused(of) ? "danger" : undefined, "data-generation": of.generation };
  const content = of.problem
    ? [el("p", { class: "bad" }, of.problem)]
    : [
      of.serves ? null : el("div", { class: "row" }, el("button", properties, label)),
      el("div", { class: "cards three" },
        el("div", { class: "card" }, el("h3", {}, "Build"), build(of)),
        el("div", { class: "card" }, el("h3", {}, "Quality gate"), gate(of.gate)),
        el("div", { class: "card" }, el("h3", {}, "Calibration"), curves(of.curves ?? []))),
    ];
  return el("section", { "aria-label": title, "data-key": of.generation }, el("h2", {}, title), content);
}

/** When it was published, which is not the same as that it could serve. */
function published(of) {
  if (!of.reason) return `never; written ${date(of.createdAt)}`;
  return `${date(of.createdAt)} by ${of.reason}${isRefused(of) && !of.serves ? "; refused by the gate" : ""}`;
}

function build(of) {
  const phases = (of.phases ?? []).map((phase) => [phase.name, time(phase.time)]);
  return [
    facts([
      ["Published", published(of)], ["Videos", count(of.vectors)],
      ["Embeddings", `${of.dim} × ${word(of.dtype, "DTYPE_")}, ${word(of.metric, "METRIC_")}, codes ${of.codes}`],
      ["Graph", `${of.builder}, m ${of.m}, ef_construction ${of.efConstruction}`], ["File", bytes(of.bytes)],
      ["Build", time(of.buildTime)], ["Model", of.embeddingModel], ["Writes up to", count(of.logSequence)],
    ]),
    phases.length ? el("details", {}, el("summary", {}, "Phases of the build"), table("Phases", ["Phase", "Time"], phases)) : null,
  ];
}

function gate(report) {
  if (!report) return el("p", { class: "faint" }, "It was not measured.");
  // Zeros are left out of answers, but not where nothing was measured.
  const ofBoth = (value) => (report.queries && report.current && report.current !== "0" ? share(value ?? 0) : "");
  return [
    el("p", { class: report.passed ? "good" : "bad" }, report.passed ? "Passed" : "Refused"),
    (report.problems ?? []).map((text) => el("p", { class: "bad" }, text)),
    facts([
      ["Measured", date(report.createdAt)], ["With", report.queries ? `${report.queries} ${report.source}` : report.source],
      [`Recall@${report.k ?? 0}`, report.queries ? share(report.recall ?? 0) : ""], ["Recall before", ofBoth(report.currentRecall)],
      ["Overlap", ofBoth(report.overlap)], ["p99", time(report.p99)], ["p99 before", time(report.currentP99)],
    ]),
  ];
}
