// The state of every index, and its last hour.

import { get, of, text } from "./api.js";
import { sparkline } from "./charts.js";
import { el, facts, fill, problem, table } from "./dom.js";
import { bytes, count, date, seconds, share, time, word } from "./format.js";

/** Milliseconds between two looks, while the page is visible. */
const PAUSE = 5000;

export async function show(root, _index, signal) {
  const body = el("div");
  root.append(el("h1", {}, "Overview"), body);
  const look = async () => {
    const status = await get("/v1/indexes");
    const health = await text("/healthz").catch(() => "");
    const histories = await Promise.all((status.indexes ?? []).map((index) =>
      get(`${of(index.name)}/history`).catch((error) => ({ error }))));
    if (signal.aborted) return;
    fill(body, server(status), (status.indexes ?? []).map((index, at) => card(index, histories[at], health)));
  };
  await look();
  const timer = setInterval(() => {
    if (!document.hidden) look().catch((error) => fill(body, problem(error)));
  }, PAUSE);
  signal.addEventListener("abort", () => clearInterval(timer));
}

function server(status) {
  const aliases = (status.aliases ?? []).map((alias) => `${alias.alias} → ${alias.indexes.join(", ")}`);
  return facts([
    ["Server", `${status.serverVersion} · ${status.kernel} · since ${date(status.startedAt)}`],
    ["Aliases", aliases.join("; ")],
  ]);
}

function card(index, history, health) {
  const line = health.split("\n").find((text) => text.startsWith(`${index.name}: `)) ?? "";
  const isServing = index.serving === true;
  return el("section", { "aria-label": index.name },
    el("h2", {}, index.name),
    index.refused ? el("p", { class: "note bad" }, index.refused) : null,
    el("div", { class: "cards" },
      el("div", { class: "card" }, el("h3", {}, "Serves"),
        el("p", { class: `number ${isServing ? "good" : "bad"}` }, isServing ? "Yes" : "No"),
        el("p", {}, line.slice(index.name.length + 2)),
        facts([
          ["Generation", index.generation], ["Videos", count(index.vectors)],
          ["Embeddings", `${index.dim ?? 0} × ${word(index.dtype, "DTYPE_")}, ${word(index.metric, "METRIC_")}`],
          ["Model", index.embeddingModel],
        ])),
      el("div", { class: "card" }, el("h3", {}, "Writes"),
        el("p", { class: index.writable ? "good" : "bad" }, index.writable ? "Accepted" : `Not accepted: ${index.readOnlyReason ?? ""}`),
        facts([
          ["Sequence", count(index.sequence)], ["In the delta", count(index.deltaVectors)], ["Deleted", count(index.deleted)],
          ["Taken down", count(index.takedowns)], ["Log", `${bytes(index.logBytes)}, ${count(index.logEntries)} entries`],
        ])),
      el("div", { class: "card" }, el("h3", {}, "Memory"),
        facts([["File", bytes(index.bytes)], ["Copy in memory", bytes(index.residentBytes)], ["Searched", word(index.memory, "MEMORY_MODE_")]]),
        sections(index.sections ?? [])),
      el("div", { class: "card" }, el("h3", {}, "Recall of recent answers"), recall(index.recall ?? [])),
      el("div", { class: "card" }, el("h3", {}, "Rebuild"), rebuild(index.rebuild ?? {}), shadow(index.shadow)),
      lastHour(history)));
}

function sections(all) {
  if (!all.length) return null;
  return el("details", {}, el("summary", {}, "Size by section"),
    table("Size by section", ["Section", "Size"], all.map((section) => [section.name, bytes(section.bytes)])));
}

function recall(all) {
  if (!all.length) return el("p", { class: "faint" }, "No answer was compared with an exact one yet.");
  const rows = all.map((of) => [of.k ? `up to ${of.k}` : "any", share(of.recall), share(of.target), of.answers ?? 0]);
  return table("Recall by k", ["k", "Recall", "Target", "Answers"], rows);
}

function rebuild(state) {
  const name = word(state.state, "STATE_") || "idle";
  const progress = state.phase ? `${state.phase}, ${Math.round((state.progress ?? 0) * 100)} %` : "";
  return el("div", {}, el("p", {}, [name, progress].filter(Boolean).join(": ")),
    state.problem ? el("p", { class: "bad" }, state.problem) : null);
}

function shadow(report) {
  return report ? el("p", {}, `Shadow: ${count(report.compared)} searches compared, ${count(report.skipped)} left out`) : null;
}

function lastHour(history) {
  if (history.error) return el("div", { class: "card" }, el("h3", {}, "Last hour"), problem(history.error));
  const points = history.points ?? [];
  const last = points.at(-1);
  const row = (name, read, format) => {
    const values = points.map(read);
    const now = last === undefined ? undefined : read(last);
    return el("div", {}, el("p", {}, el("span", { class: "faint" }, `${name} `), el("strong", {}, now === undefined ? "–" : format(now))),
      sparkline(name, values, format));
  };
  const rate = (value) => `${value.toFixed(value < 10 ? 1 : 0)}/s`;
  const millis = (value) => time(`${value}s`);
  return el("div", { class: "card wide" }, el("h3", {}, "Last hour"), el("div", { class: "small" },
    row("Searches", (point) => point.searchesPerSecond ?? 0, rate),
    row("p50", (point) => seconds(point.p50), millis), row("p99", (point) => seconds(point.p99), millis),
    row("In flight", (point) => point.inFlight ?? 0, String),
    row("Refused", (point) => point.refusedPerSecond ?? 0, rate), row("Failed", (point) => point.failedPerSecond ?? 0, rate),
    row("Recall", (point) => point.recall, share), row("Process memory", (point) => Number(point.residentMemoryBytes ?? 0), bytes)));
}
