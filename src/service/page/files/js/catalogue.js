// One video: what is stored, what resembles it, and taking it down.

import { get, of, post } from "./api.js";
import { announce, confirmed, el, facts, field, fill, problem, table } from "./dom.js";
import { date, id, value, word } from "./format.js";

/** The field of a request for an id. */
const ids = (text) => (/^\d+$/.test(text) ? { videoIds: [text] } : { textIds: [text] });
const seed = (text) => (/^\d+$/.test(text) ? { videoId: text } : { textId: text });

export async function show(root, index) {
  const input = el("input", { type: "text", required: true, id: "video" });
  const result = el("div", { "aria-live": "polite" });
  const asked = new URLSearchParams(location.hash.split("?")[1] ?? "").get("id");
  const look = async (text) => {
    fill(result, el("p", {}, "Looking …"));
    try {
      const answer = await post(`${of(index)}/videos:get`, { ...ids(text), returnAttributes: ["*"] });
      fill(result, ...await video(index, text, answer.results?.[0] ?? {}, look));
    } catch (error) {
      fill(result, problem(error));
    }
  };
  const form = el("form", { class: "row" }, field("Id of a video", input, { class: "grow" }), el("button", { class: "primary" }, "Look it up"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    look(input.value.trim());
  });
  root.append(el("h1", {}, "Catalogue"), form, result);
  if (asked) {
    input.value = asked;
    await look(asked);
  }
}

async function video(index, text, lookup, look) {
  const state = word(lookup.state, "STATE_");
  const isDown = lookup.state === "STATE_TAKEN_DOWN";
  const found = lookup.video;
  const change = async (name, path) => {
    const question = isDown
      ? "Searches return it again, with the content of its last upsert."
      : "Searches do not return it any more, even after later writes and builds, until it is restored.";
    if (!(await confirmed(`${name} ${text}?`, question, name, !isDown))) return;
    try {
      const written = await post(`${of(index)}/videos:${path}`, ids(text));
      if (written.errors?.length) throw new Error(written.errors[0].status?.message ?? "It was not written.");
      announce(`${name}: done`);
    } catch (error) {
      box.append(problem(error));
      return;
    }
    await look(text);
  };
  const box = el("div", { class: "row" }, isDown
    ? el("button", { type: "button", class: "primary", onclick: () => change("Restore", "restore") }, "Restore")
    : el("button", { type: "button", class: "danger", onclick: () => change("Take down", "takedown") }, "Take down"));
  const attributes = Object.entries(found?.attributes ?? {}).sort().map(([name, of]) => [name, value(of)]);
  return [
    el("h2", {}, `Video ${text}`), el("p", {}, `State: ${state || "unknown"}`),
    facts([...attributes, ["expires", date(found?.expiresAt)]]), box,
    await changes(index), found ? await neighbours(index, text) : null,
  ];
}

async function changes(index) {
  try {
    const answer = await post("/v1/changes:list", { index, limit: 5 });
    const rows = (answer.changes ?? []).map((of) => [date(of.time), of.who ?? "", of.method, of.outcome, (of.videoIds ?? []).slice(0, 3).join(" ")]);
    return rows.length ? table("Newest changes", ["Time", "Who", "Method", "Outcome", "Videos"], rows) : el("p", { class: "faint" }, "No changes since the server started.");
  } catch (error) {
    return problem(error);
  }
}

async function neighbours(index, text) {
  try {
    const answer = await post(`${of(index)}:search`, { seeds: { seeds: [seed(text)] }, k: 10, returnAttributes: ["*"] });
    const rows = (answer.candidates ?? []).map((of) => [
      el("a", { href: `#/catalogue?id=${encodeURIComponent(id(of))}` }, id(of)), of.attributes?.title ? value(of.attributes.title) : "", (of.score ?? 0).toFixed(4)]);
    return table("Near neighbours", ["Video", "Title", "Score"], rows);
  } catch (error) {
    return problem(error);
  }
}
