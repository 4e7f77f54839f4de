// Why a video is, or is not, in an answer.

import { latest, pathOf, post } from "./api.js";
import { announce, el, facts, field, fill, problem } from "./dom.js";
import { word } from "./format.js";
import { asVideo, asVideos, oneId } from "./ids.js";
import { clear, mark, Mistake } from "./mistakes.js";

/** A part of the page that explains videos for a search. `ask` explains one, and shows it. */
export function explanation(index, sent, signal) {
  const input = el("input", { type: "text", id: "explained", autocomplete: "off" });
  const result = el("div");
  const form = el("form", { class: "row", novalidate: true },
    field("Id of a video", input, { class: "grow" }), el("button", {}, "Explain"));
  const element = el("details", {}, el("summary", {}, "Why not this video?"), form, result);
  const next = latest(signal);
  const explain = async () => {
    const now = next();
    clear(form);
    fill(result);
    try {
      const video = oneId(input.value, index.hasTextIds);
      fill(result, el("p", {}, "Looking …"));
      const content = await answered(index, sent, video, now);
      if (now.aborted) return;
      fill(result, content);
      announce(result.querySelector("p").textContent);
    } catch (error) {
      if (now.aborted) return;
      if (error instanceof Mistake) mark(input, error.message);
      fill(result, error instanceof Mistake ? null : problem(error));
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    explain();
  });
  return {
    element,
    ask: (video) => {
      element.open = true;
      input.value = video;
      input.focus();
      return explain();
    },
  };
}

async function answered(index, sent, video, now) {
  try {
    const asked = { request: sent, ...asVideo(video, index.hasTextIds) };
    return explained(video, await post(`${pathOf(index)}:explain`, asked, now));
  } catch (error) {
    if (error.code !== "NOT_FOUND") throw error;
    const lookup = await post(`${pathOf(index)}/videos:get`, asVideos([video], index.hasTextIds), now);
    const isDown = lookup.results?.[0]?.state === "STATE_TAKEN_DOWN";
    const said = isDown ? "was taken down. Searches return it again once it is restored." : "is not in this index.";
    return el("p", {}, `Video ${video} ${said}`);
  }
}

function explained(video, of) {
  const isLost = of.lost && of.lost !== "LOSS_UNSPECIFIED";
  const said = of.found ? `is candidate ${of.rank}`
    : of.reason ? `is left out: ${of.reason}`
      : isLost ? `is lost by the search: ${word(of.lost, "LOSS_")}` : "scores too low";
  return [el("p", {}, `Video ${video} ${said}.`), facts([
    ["Exact score", (of.exactScore ?? 0).toFixed(4)], ["Rank among all that pass the rules", of.exactRank],
    ["Rule", word(of.removedBy, "RULE_").replace("unspecified", "")], ["At", of.removedAt],
    ["In the exact answer", of.inExactAnswer ? "yes" : "no"],
  ])];
}
