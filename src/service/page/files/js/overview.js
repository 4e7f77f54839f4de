// The state of every index, and its last hour.

import { get, health, pathOf } from "./api.js";
import { el, facts, fill, problem, table } from "./dom.js";
import { bytes, count, date, share, word } from "./format.js";
import { lastHour } from "./history.js";
import { patch } from "./patch.js";
import { repeat } from "./repeat.js";

/** Milliseconds between two looks. */
const PAUSE = 5000;

export async function show(root, _index, signal) {
  const body = el("div");
  const trouble = el("div");
  root.append(el("h1", {}, "Overview"), trouble, body);
  const look = async () => {
    const [status, words] = await Promise.all([get("/v1/indexes", signal), health(signal)]);
    const indexes = status.indexes ?? [];
    const histories = await Promise.all(indexes.map((index) => get(`${pathOf(index)}/history`, signal).catch((error) => ({ error }))));
    if (signal.aborted) return;
    patch(body, el("div", {}, server(status), indexes.map((index, at) => section(index, histories[at], words.get(index.name)))));
  };
  await look();
  repeat(signal, PAUSE, async () => {
    try {
      await look();
      fill(trouble);
    } catch (error) {
      if (signal.aborted || trouble.firstChild) return;
      fill(trouble, problem(error), el("p", {}, "Retrying every 5 seconds. These numbers may be old."));
    }
  });
}

function server(status) {
  const aliases = (status.aliases ?? []).map((alias) => `${alias.alias} → ${alias.indexes.join(", ")}`);
  return facts([
    ["Server", `${status.serverVersion} · ${status.kernel} · since ${date(status.startedAt)}`],
    ["Aliases", aliases.join("; ")],
  ]);
}

function section(index, history, state) {
  return el("section", { "aria-label": index.name, "data-key": index.name },
    el("h2", {}, index.name),
    index.refused ? el("p", { class: "note bad" }, index.refused) : null,
    el("div", { class: "cards state" },
      card("Serves", serves(index, state)), card("Videos", videos(index)), card("Writes", writes(index)),
      card("Memory", memory(index)), card("Recall of recent answers", recall(index.recall ?? [])),
      card("Rebuild", [rebuild(index.rebuild ?? {}), shadow(index.shadow)]),
      el("div", { class: "card wide", "data-key": "history" }, lastHour(history))));
}

const card = (title, content) => el("div", { class: "card", "data-key": title }, el("h3", {}, title), content);

function serves(index, state) {
  const isServing = index.serving === true;
  return [
    el("p", { class: `number ${isServing ? "good" : "bad"}` }, isServing ? "Yes" : "No"),
    state && state !== "serving" ? el("p", {}, state) : null,
    facts([
      ["Generation", index.generation],
      ["Embeddings", `${index.dim ?? 0} × ${word(index.dtype, "DTYPE_")}, ${word(index.metric, "METRIC_")}`],
      ["Model", index.embeddingModel],
    ]),
  ];
}

/** A replaced video is in the delta, and its row of the generation is one of those that are deleted. */
function videos(index) {
  const [built, gone, delta] = [index.vectors, index.deleted, index.deltaVectors].map((number) => BigInt(number ?? 0));
  return [
    el("p", { class: "number" }, count(built - gone + delta)),
    facts([
      ["Built", count(built)], ["In the delta", count(delta)], ["Replaced or deleted", count(gone)],
      ["Taken down", count(index.takedowns)],
    ]),
  ];
}

function writes(index) {
  return [
    el("p", { class: index.writable ? "good" : "bad" }, index.writable ? "Accepted" : `Not accepted: ${index.readOnlyReason ?? ""}`),
    facts([
      ["Sequence", count(index.sequence)], ["Log", `${bytes(index.logBytes)}, ${count(index.logEntries)} entries`],
      ["Parked", index.parkedEntries ? count(index.parkedEntries) : ""],
    ]),
  ];
}

function memory(index) {
  const rows = (index.sections ?? []).map((part) => [part.name, bytes(part.bytes)]);
  return [
    facts([["File", bytes(index.bytes)], ["Copy in memory", bytes(index.residentBytes)],
      ["Searched", word(index.memory, "MEMORY_MODE_")]]),
    rows.length ? el("details", {}, el("summary", {}, "Size by section"), table("Size by section", ["Section", "Size"], rows)) : null,
  ];
}

function recall(all) {
  if (!all.length) return el("p", { class: "faint" }, "No answer was compared with an exact one yet.");
  const rows = all.map((of) => {
    const targeted = of.target === undefined ? "" : share(of.targetedRecall ?? 0);
    return [of.k ? `up to ${of.k}` : "above 1000", share(of.recall ?? 0), of.answers ?? 0, targeted, share(of.target)];
  });
  return table("Recall by k", ["k", "Recall", "Answers", "With a target", "Target"], rows);
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
