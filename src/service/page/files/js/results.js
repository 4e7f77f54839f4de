// The candidates of a search as cards, what it did, and the request to be copied.

import { link } from "./address.js";
import { curl, grpcurl, python } from "./copy.js";
import { announce, button, el, facts } from "./dom.js";
import { explanation } from "./explain.js";
import { id, time, value, word } from "./format.js";

/** What is shown of an answer. `form`: the values of the form in the address; `exclude`: leaves out a video. */
export function results(found) {
  const { index, sent, answer } = found;
  const candidates = answer.candidates ?? [];
  const stats = answer.stats ?? {};
  const reason = word(answer.completeness?.reason, "REASON_");
  const why = explanation(index, sent, found.signal);
  return [
    el("h2", {}, candidates.length === 1 ? "1 candidate" : `${candidates.length} candidates`),
    facts([
      ["Complete", reason === "complete" ? "yes" : `no: ${reason}`], ["Plan", word(stats.plan, "PLAN_")], ["ef_search", stats.efSearch],
      ["Videos scored", stats.distances], ["Time", time(stats.elapsed)], ["Generation", answer.generation], ["Index", answer.index],
      ["Unknown videos", (answer.unknownVideoIds ?? []).join(", ")],
    ]),
    copies(found), why.element,
    el("div", { class: "cards" }, candidates.map((candidate, at) => card(candidate, at, found, why))),
  ];
}

function card(candidate, at, { index, template, form, exclude }, why) {
  const attributes = candidate.attributes ?? {};
  const video = id(candidate);
  const shown = Object.entries(attributes).filter(([name]) => name !== "title").sort().map(([name, of]) => [name, value(of)]);
  const like = link("try", { index: index.name, ...form, source: "video", video, user: undefined, offset: undefined, run: "1" });
  return el("article", { class: "card" }, image(candidate, template),
    el("h3", {}, `${at + 1}. ${attributes.title ? value(attributes.title) : video}`),
    el("p", {}, `Score ${(candidate.score ?? 0).toFixed(4)} · `,
      el("a", { href: link("catalog", { index: index.name, id: video }) }, video)),
    facts([
      ["From score terms", (candidate.terms ?? []).map((term) => term.toFixed(4)).join(", ")],
      ["Reserved by", (candidate.reserved ?? []).map((place) => `reserve ${place + 1}`).join(", ")],
      ["Interest", candidate.interest === undefined ? "" : String(candidate.interest + 1)], ...shown,
    ]),
    el("div", { class: "row actions" },
      el("a", { href: like, class: "button", "aria-label": `More like this: ${video}` }, "More like this"),
      button("Why", () => why.ask(video), { "aria-label": `Why ${video}` }),
      button("Exclude", () => exclude(video), { "aria-label": `Exclude ${video}` })));
}

/**
 * The picture that a template names, such as https://img.example/{video_id}.jpg, also with names of attributes. A template that is
 * only {name} is in that attribute.
 */
function image(candidate, template) {
  const text = (name) => {
    const of = candidate.attributes?.[name];
    return name === "video_id" ? id(candidate) : of ? value(of) : "";
  };
  const [, only] = template.match(/^\{(\w+)\}$/) ?? [];
  const address = (only ? text(only) : template).replaceAll(/\{(\w+)\}/g, (_, name) => encodeURIComponent(text(name)));
  if (!URL.canParse(address) || new URL(address).protocol !== "https:") return null;
  return el("img", { src: address, alt: "", loading: "lazy", onerror: (event) => event.target.remove() });
}

function copies({ index, sent, texts }) {
  const shown = el("pre", { tabindex: "0", "aria-label": "The request" });
  const copy = (name, text) => button(name, async () => {
    shown.textContent = text;
    await navigator.clipboard?.writeText(text).then(() => announce(`Copied as ${name}`), () => {});
  });
  return el("details", {}, el("summary", {}, "Copy the request"),
    el("div", { class: "row" },
      copy("curl", curl(index, sent)), copy("grpcurl", grpcurl(index, sent)), copy("Python", python(index, sent, texts))),
    shown);
}
