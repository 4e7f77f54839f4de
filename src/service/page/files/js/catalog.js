// One video: what is stored, what resembles it, and taking it down.

import { keep, link, read } from "./address.js";
import { latest, pathOf, post } from "./api.js";
import { confirmed } from "./dialog.js";
import { announce, button, el, facts, field, fill, focusOn, problem, table } from "./dom.js";
import { date, id, value, word } from "./format.js";
import { asVideo, asVideos, oneId } from "./ids.js";
import { clear, mark, Mistake } from "./mistakes.js";

const STATES = { STATE_FOUND: "found", STATE_TAKEN_DOWN: "taken down", STATE_UNKNOWN: "not in this index" };
const UNKNOWN = "It can be taken down all the same: then later writes and builds with it are not returned either.";

const CHANGES = {
  takedown: ["Take down", "Searches do not return it any more, even after later writes and builds, until it is restored."],
  restore: ["Restore", "Searches return it again, with the content of its last upsert."],
};

export async function show(root, index, signal, { mayRead }) {
  const input = el("input", { type: "text", id: "video", autocomplete: "off" });
  const result = el("div");
  const form = el("form", { class: "row", novalidate: true }, field("Id of a video", input, { class: "grow" }));
  root.append(el("h1", {}, "Catalog"), form, result);
  const screen = { index, input, form, result, signal, next: latest(signal) };
  form.addEventListener("submit", (event) => event.preventDefault());
  if (!mayRead) {
    writesOnly(screen);
    return;
  }
  form.append(el("button", { class: "primary" }, "Look it up"));
  form.addEventListener("submit", () => withId(screen, index.hasTextIds, (video) => {
    keep({ id: video }, true);
    return look(screen, video);
  }));
  const asked = read().values.get("id");
  if (!asked) return;
  input.value = asked;
  await withId(screen, index.hasTextIds, (video) => look(screen, video));
}

/** Runs `act` with the id that is typed, and shows what is wrong. */
async function withId(screen, isText, act) {
  const { input, form, result, signal } = screen;
  clear(form.parentElement);
  try {
    await act(oneId(input.value, isText));
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof Mistake) mark(input, error.message);
    fill(result, error instanceof Mistake ? null : problem(error, () => withId(screen, isText, act)));
  }
}

/** For a key that may not look up: nothing is known of the video, and of most indexes not even what ids are. */
function writesOnly(screen) {
  const { index, form, result } = screen;
  const isText = el("input", { type: "checkbox" });
  const isKnown = index.dim !== undefined;
  const ofText = () => (isKnown ? index.hasTextIds : isText.checked);
  const write = (path) => button(CHANGES[path][0], () => withId(screen, ofText(), async (video) => {
    if (!index.name) throw new Error("Enter the name of the index above.");
    if (!(await change(screen, video, path, ofText()))) return;
    fill(result, el("p", { class: "good" }, `${CHANGES[path][0]}: done for video ${video}.`));
    announce(result.textContent);
  }), { class: path === "takedown" ? "danger" : undefined });
  form.append(...isKnown ? [] : [field("Ids of this index are text", isText, { class: "line" })], write("takedown"), write("restore"));
  const roles = "Looking videos up needs a key with the role read; taking them down, one with the role takedown.";
  form.after(el("p", { class: "faint" }, roles));
}

/** Asks, and takes a video down or restores it. Returns whether that was done. */
async function change({ index, signal }, video, path, isText) {
  const [name, text] = CHANGES[path];
  const question = { title: `${name} ${video}?`, text, action: name, isSafe: path === "restore" };
  if (!(await confirmed(signal, question))) return false;
  const written = await post(`${pathOf(index)}/videos:${path}`, asVideos([video], isText));
  if (written.errors?.length) throw new Error(written.errors[0].status?.message ?? "It was not written.");
  announce(`${name}: done`);
  return true;
}

async function look(screen, video) {
  const { result, next } = screen;
  const now = next();
  fill(result, el("p", {}, "Looking …"));
  try {
    const content = await contentOf(screen, video, now);
    if (!now.aborted) fill(result, content);
  } catch (error) {
    if (!now.aborted) throw error;
  }
}

/** All that is known of a video. */
async function contentOf(screen, video, now) {
  const { index } = screen;
  const wanted = { ...asVideos([video], index.hasTextIds), returnAttributes: ["*"] };
  const answer = await post(`${pathOf(index)}/videos:get`, wanted, now);
  const lookup = answer.results?.[0] ?? {};
  const isFound = lookup.state === "STATE_FOUND";
  const parts = await Promise.all([changes(index, lookup, now), isFound ? neighbors(index, video, now) : null]);
  if (!now.aborted) announce(`Video ${video}: ${STATES[lookup.state]}`);
  return [about(screen, video, lookup), parts];
}

function about(screen, video, lookup) {
  const { index, result, signal } = screen;
  const found = lookup.video ?? {};
  const trouble = el("div");
  const write = (path) => button(CHANGES[path][0], async () => {
    try {
      if (!(await change(screen, video, path, index.hasTextIds))) return;
      await look(screen, video);
      if (!signal.aborted) focusOn(result.querySelector("h2"));
    } catch (error) {
      fill(trouble, problem(error));
    }
  }, { class: path === "takedown" ? "danger" : "primary" });
  const attributes = Object.entries(found.attributes ?? {}).sort().map(([name, of]) => [name, value(of)]);
  return [
    el("h2", {}, `Video ${video}`),
    el("p", {}, `State: ${STATES[lookup.state] ?? word(lookup.state, "STATE_")}`),
    lookup.state === "STATE_UNKNOWN" ? el("p", { class: "faint" }, UNKNOWN) : null,
    facts([...attributes, ["expires", date(found.expiresAt)]]),
    el("div", { class: "row" }, write(lookup.state === "STATE_TAKEN_DOWN" ? "restore" : "takedown")), trouble,
  ];
}

/** The changes that name the video: those of text ids, too, have its number. */
async function changes(index, lookup, now) {
  try {
    const answer = await post("/v1/changes:list", { index: index.name, videoId: lookup.videoId ?? "0", limit: 20 }, now);
    const outcome = (of) => (of.problem ? `${of.outcome}: ${of.problem}` : of.outcome);
    const rows = (answer.changes ?? []).map((of) => [date(of.time), of.who ?? "", of.method, outcome(of)]);
    return rows.length ? table("Changes of this video", ["Time", "Who", "Method", "Outcome"], rows)
      : el("p", { class: "faint" }, "No changes since the server started. Upserts are not listed.");
  } catch (error) {
    if (error.http !== 403 && error.http !== 404) return problem(error);
    return el("p", { class: "faint" }, "Changes need the role admin and the administration address.");
  }
}

async function neighbors(index, video, now) {
  try {
    const seeds = [asVideo(video, index.hasTextIds)];
    const answer = await post(`${pathOf(index)}:search`, { seeds: { seeds }, k: 10, returnAttributes: ["*"] }, now);
    const rows = (answer.candidates ?? []).map((of) => [
      el("a", { href: link("catalog", { index: index.name, id: id(of) }) }, id(of)),
      of.attributes?.title ? value(of.attributes.title) : "", (of.score ?? 0).toFixed(4),
    ]);
    return table("Near neighbors", ["Video", "Title", "Score"], rows);
  } catch (error) {
    return problem(error);
  }
}
