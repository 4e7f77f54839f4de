// The request of the form: fields become a SearchRequest.

import { terms } from "./terms.js";

const numbers = (text) => text.split(/[\s,[\]]+/).filter(Boolean).map(Number);
const words = (text) => text.split(/[\s,]+/).filter(Boolean);

/** Reads a vector: numbers with commas, spaces or brackets. */
export function vector(text, dim) {
  const values = numbers(text);
  if (!values.length || values.some((value) => !Number.isFinite(value))) throw new Error("Expected numbers, such as 0.1, -0.5.");
  if (dim && values.length !== dim) throw new Error(`Expected ${dim} numbers, found ${values.length}.`);
  return { values };
}

/** Ids as numbers or, if any is not a number, as text. */
function ids(text) {
  const all = words(text);
  return all.every((id) => /^\d+$/.test(id)) ? { videoIds: all } : { textIds: all };
}

function query(form, dim) {
  switch (form.source) {
    case "video":
      return { seeds: { seeds: words(form.video).map((id) => (/^\d+$/.test(id) ? { videoId: id } : { textId: id })) } };
    case "vector":
      return { vector: vector(form.vector, dim) };
    case "interests":
      return { interests: { interests: form.interests.split("\n").filter((line) => line.trim()).map((line) => ({ vector: vector(line, dim) })) } };
    default:
      return { vector: form.user };
  }
}

function params(form) {
  switch (form.effort) {
    case "ef": return { params: { efSearch: Number(form.efSearch) } };
    case "recall": return { params: { targetRecall: Number(form.targetRecall) } };
    case "exact": return { params: { exact: true } };
    default: return {};
  }
}

/** `name=number` lines or words, such as `creator=2`. */
const pairs = (text) => words(text).map((pair) => pair.split("="));

/** The SearchRequest of the form, as JSON. Fields that are empty are left out. */
export function request(form, dim) {
  const of = { ...query(form, dim), k: Number(form.k), ...params(form), returnAttributes: ["*"], returnStats: true };
  if (form.filter.trim()) of.filterText = form.filter.trim();
  if (form.exclude.trim()) of.exclude = ids(form.exclude);
  if (form.caps.trim()) of.caps = pairs(form.caps).map(([attribute, most]) => ({ attribute, maxPerValue: Number(most) }));
  if (form.fresh.trim()) {
    const [days, least] = form.fresh.trim().split(/[\s,]+/);
    of.fresh = { within: `${Math.round(Number(days) * 86400)}s`, atLeast: Number(least ?? 1) };
  }
  if (form.threshold.trim()) of.scoreThreshold = Number(form.threshold);
  const diversity = {};
  if (form.maxSimilarity.trim()) diversity.maxSimilarity = Number(form.maxSimilarity);
  if (form.lambda.trim()) diversity.lambda = Number(form.lambda);
  if (Object.keys(diversity).length) of.diversity = diversity;
  if (form.reserve.trim()) {
    of.reserve = form.reserve.split("\n").filter((line) => line.trim()).map((line) => {
      const [places, ...filter] = line.split(":");
      const share = places.trim().endsWith("%") ? { share: Number.parseFloat(places) / 100 } : { atLeast: Number(places) };
      return { ...share, filterText: filter.join(":").trim() };
    });
  }
  if (form.terms.trim()) of.scoreTerms = terms(form.terms);
  if (Number(form.offset) > 0) of.offset = Number(form.offset);
  if (form.model.trim()) of.embeddingModel = form.model.trim();
  return of;
}
