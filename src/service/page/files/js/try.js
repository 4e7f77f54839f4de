// Searches as a user would: query, rules, candidates, and why a video is not among them.

import { get, of, post } from "./api.js";
import { completes, pointAt } from "./complete.js";
import { curl, grpcurl, python } from "./copy.js";
import { announce, el, facts, field, fill, problem } from "./dom.js";
import { id, time, value, word } from "./format.js";
import { request } from "./request.js";

const TEMPLATE = "shortlist-thumbnail";
/** The last candidates, which the map draws. */
export const last = { query: undefined, candidates: [] };

export async function show(root, index) {
  const status = (await get(of(index))).indexes?.[0] ?? {};
  const users = await post(`${of(index)}/users:sample`, { count: 20 }).catch((error) => ({ error, source: error.message }));
  const text = (properties) => el("input", { type: "text", ...properties });
  const number = (properties) => el("input", { type: "number", ...properties });
  const area = (rows) => el("textarea", { rows, spellcheck: false });
  const select = (...options) => el("select", {}, options.map(([name, label]) => el("option", { value: name }, label)));
  const controls = {
    source: select(["user", "A sample user"], ["video", "A video: more like this"], ["vector", "A vector"], ["interests", "Several interests"]),
    user: el("select", {}, (users.users ?? []).map((_, at) => el("option", { value: at }, `User ${at + 1}`))),
    video: text({ placeholder: "ids" }), vector: area(3), interests: area(4),
    k: number({ value: "20", min: "1" }), effort: select(["", "Default"], ["ef", "ef_search"], ["recall", "Target recall"], ["exact", "Exact"]),
    efSearch: number({ value: "200", min: "1" }), targetRecall: number({ value: "0.95", min: "0", max: "1", step: "any" }),
    filter: area(2), exclude: text({ placeholder: "ids" }), caps: text({ placeholder: "creator=2" }),
    fresh: text({ placeholder: "7 5" }), maxSimilarity: number({ min: "0", max: "1", step: "any" }), lambda: number({ min: "0", max: "1", step: "any" }),
    threshold: number({ step: "any" }), terms: area(2), reserve: area(2), offset: number({ value: "0", min: "0" }), model: text({}),
    thumbnail: text({ placeholder: "https://…/{video_id}.jpg" }),
  };
  controls.thumbnail.value = localStorage.getItem(TEMPLATE) ?? "";
  const parts = {
    user: field(`Users: ${users.source ?? ""}`, controls.user), video: field("Ids of videos", controls.video),
    vector: field(`${status.dim ?? ""} numbers`, controls.vector, { class: "grow" }), interests: field("One vector per line", controls.interests, { class: "grow" }),
    ef: field("ef_search", controls.efSearch), recall: field("Target recall", controls.targetRecall),
  };
  const result = el("div", { "aria-live": "polite" });
  const form = el("form", {},
    el("fieldset", {}, el("legend", {}, "Query"), el("div", { class: "row" }, field("From", controls.source), parts.user, parts.video, parts.vector, parts.interests)),
    el("fieldset", {}, el("legend", {}, "Rules"),
      field("Filter, such as region = \"US\"", controls.filter, { class: "grow" }), completes(controls.filter, index, status.attributes ?? []),
      el("div", { class: "row" },
        field("Exclude", controls.exclude), field("Caps", controls.caps), field("Fresh: days, places", controls.fresh),
        field("Most similarity", controls.maxSimilarity), field("Lambda (MMR)", controls.lambda), field("Least score", controls.threshold)),
      el("details", {}, el("summary", {}, "More"),
        el("div", { class: "row" }, field("Score terms, one per line: 0.1*log1p(views)", controls.terms, { class: "grow" }), field("Reserve, one per line: 5:views < 100", controls.reserve, { class: "grow" }), field("Offset", controls.offset),
          field("Embedding model", controls.model), field("Thumbnails", controls.thumbnail)))),
    el("div", { class: "row" }, field("k", controls.k), field("Effort", controls.effort), parts.ef, parts.recall, el("button", { class: "primary" }, "Search")));
  const settle = () => {
    for (const name of ["user", "video", "vector", "interests"]) parts[name].hidden = controls.source.value !== name;
    for (const name of ["ef", "recall"]) parts[name].hidden = controls.effort.value !== name;
  };
  form.addEventListener("change", settle);
  settle();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    localStorage.setItem(TEMPLATE, controls.thumbnail.value);
    const values = Object.fromEntries(Object.entries(controls).map(([name, control]) => [name, control.value]));
    values.user = users.users?.[Number(values.user)];
    try {
      if (values.source === "user" && !values.user) throw new Error("There is no sample user. Choose another query.");
      const sent = request(values, status.dim);
      const texts = { scoreTerms: controls.terms.value.split("\n").filter((line) => line.trim()) };
      fill(result, el("p", {}, "Searching …"));
      const answer = await post(`${of(index)}:search`, sent);
      last.query = sent.vector?.values;
      last.candidates = (answer.candidates ?? []).map(id);
      fill(result, found(index, sent, texts, answer, controls.thumbnail.value));
      announce(`${answer.candidates?.length ?? 0} candidates`);
    } catch (error) {
      fill(result, problem(error));
      if (error.fields?.some((of) => of.field === "filter_text") || /line \d+, column/.test(error.message)) pointAt(controls.filter, error.message);
    }
  });
  root.append(el("h1", {}, "Try it"), form, result);
}

function found(index, sent, texts, answer, template) {
  const of = answer.completeness ?? {};
  const stats = answer.stats ?? {};
  const reason = word(of.reason, "REASON_");
  return [
    el("h2", {}, `${answer.candidates?.length ?? 0} candidates`),
    facts([
      ["Complete", reason === "complete" ? "yes" : `no: ${reason}`], ["Plan", word(stats.plan, "PLAN_")], ["ef_search", stats.efSearch],
      ["Videos scored", stats.distances], ["Time", time(stats.elapsed)], ["Generation", answer.generation], ["Index", answer.index],
    ]),
    el("div", { class: "row" }, copies(index, sent, texts), why(index, sent)),
    el("div", { class: "cards" }, (answer.candidates ?? []).map((candidate, at) => card(candidate, at, template))),
  ];
}

function card(candidate, at, template) {
  const attributes = candidate.attributes ?? {};
  const shown = Object.entries(attributes).filter(([name]) => name !== "title").sort().map(([name, of]) => [name, value(of)]);
  const url = template.replaceAll(/\{(\w+)\}/g, (_, name) => encodeURIComponent(name === "video_id" ? id(candidate) : attributes[name] ? value(attributes[name]) : ""));
  const image = /^https:\/\//.test(url) ? el("img", { src: url, alt: "", loading: "lazy" }) : null;
  return el("article", { class: "card" }, image,
    el("h3", {}, `${at + 1}. ${attributes.title ? value(attributes.title) : id(candidate)}`),
    el("p", {}, `Score ${(candidate.score ?? 0).toFixed(4)} · `, el("a", { href: `#/catalogue?id=${encodeURIComponent(id(candidate))}` }, id(candidate))),
    facts([
      ["of score terms", (candidate.terms ?? []).map((term) => term.toFixed(4)).join(", ")],
      ["holds a place of", (candidate.reserved ?? []).map((at) => `reserve ${at + 1}`).join(", ")], ...shown,
    ]));
}

function copies(index, sent, texts) {
  const shown = el("pre", { tabindex: "0" });
  const show = (name, text) => el("button", { type: "button", onclick: async () => {
    shown.textContent = text;
    await navigator.clipboard?.writeText(text).then(() => announce(`Copied as ${name}`), () => {});
  } }, name);
  return el("details", { class: "grow" }, el("summary", {}, "Copy the request"),
    el("div", { class: "row" }, show("curl", curl(index, sent)), show("grpcurl", grpcurl(index, sent)), show("Python", python(index, sent, texts))), shown);
}

function why(index, sent) {
  const input = el("input", { type: "text" });
  const result = el("div", { "aria-live": "polite" });
  const ask = async () => {
    const text = input.value.trim();
    try {
      const video = /^\d+$/.test(text) ? { videoId: text } : { textId: text };
      const { returnStats, ...search } = sent;
      fill(result, explained(await post(`${of(index)}:explain`, { request: search, ...video })));
    } catch (error) {
      fill(result, problem(error));
    }
  };
  return el("details", { class: "grow" }, el("summary", {}, "Why not this video?"),
    el("div", { class: "row" }, field("Id of a video", input), el("button", { type: "button", onclick: ask }, "Explain")), result);
}

function explained(of) {
  const said = of.found ? `It is candidate ${of.rank}.`
    : of.reason ? `It is left out: ${of.reason}.`
      : of.lost && of.lost !== "LOSS_UNSPECIFIED" ? `The search loses it: ${word(of.lost, "LOSS_")}.` : "It scores too low.";
  return [el("p", {}, said), facts([
    ["Exact score", (of.exactScore ?? 0).toFixed(4)], ["Rank among all that pass the rules", of.exactRank], ["Rule", word(of.removedBy, "RULE_").replace("unspecified", "")],
    ["At", of.removedAt], ["In the exact answer", of.inExactAnswer ? "yes" : "no"],
  ])];
}
