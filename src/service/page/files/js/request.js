// The request of the form: fields become a SearchRequest. What cannot be sent is a Mistake, of the control that has it.

import { asVideo, asVideos, ids } from "./ids.js";
import { Mistake, within } from "./mistakes.js";
import { duration, terms } from "./terms.js";

/** Reads a vector: numbers with commas, spaces or brackets. */
function vector(text, dim) {
  const values = text.split(/[\s,[\]]+/).filter(Boolean).map((word) => [word, Number(word)]);
  const wrong = values.find(([, value]) => !Number.isFinite(value));
  if (wrong) throw new Mistake(`Expected numbers, such as 0.1, -0.5, found ${wrong[0]}.`);
  if (!values.length) throw new Mistake("Expected numbers, such as 0.1, -0.5, found none.");
  if (dim && values.length !== dim) throw new Mistake(`Expected ${dim} numbers, found ${values.length}.`);
  return { values: values.map(([, value]) => value) };
}

const lines = (text) => text.split("\n").filter((line) => line.trim());

function seeds(text, isText) {
  const all = ids(text, isText);
  if (!all.length) throw new Mistake("Expected the id of a video.");
  return { seeds: { seeds: all.map((id) => asVideo(id, isText)) } };
}

function interests(text, dim) {
  const all = lines(text);
  if (!all.length) throw new Mistake("Expected one vector per line, found none.");
  return { interests: { interests: all.map((line) => ({ vector: vector(line, dim) })) } };
}

function query(form, index) {
  switch (form.source) {
    case "video": return within("video", () => seeds(form.video, index.hasTextIds));
    case "vector": return within("vector", () => ({ vector: vector(form.vector, index.dim) }));
    case "interests": return within("interests", () => interests(form.interests, index.dim));
    default:
      if (!form.sample) throw new Mistake("There is no sample user. Choose another query.", "source");
      return { vector: form.sample };
  }
}

/** A number in a range. `isWhole`: without a fraction. */
function number(text, { from = -Infinity, to = Infinity, isWhole = false, what = "a number" }) {
  const value = Number(text);
  if (text.trim() && Number.isFinite(value) && value >= from && value <= to && (!isWhole || Number.isInteger(value))) return value;
  throw new Mistake(`Expected ${what}, found ${text.trim() || "nothing"}.`);
}

const COUNT = { from: 1, to: 2 ** 32 - 1, isWhole: true, what: "a whole number from 1" };
const SHARE = { from: 0, to: 1, what: "a number from 0 to 1" };

/** A number of a control; undefined if it is empty. */
const optional = (form, control, range) => (form[control].trim() ? within(control, () => number(form[control], range)) : undefined);

function params(form) {
  switch (form.effort) {
    case "ef": return { efSearch: within("efSearch", () => number(form.efSearch, COUNT)) };
    case "recall": return { targetRecall: within("targetRecall", () => number(form.targetRecall, SHARE)) };
    case "exact": return { exact: true };
    default: return undefined;
  }
}

/** Caps such as `creator = 2, topic=5`. */
function caps(text) {
  const all = text.replaceAll(/\s*=\s*/g, "=").split(/[\s,]+/).filter(Boolean);
  return all.map((pair) => {
    const [, attribute, most] = pair.match(/^([^=]+)=(\d+)$/) ?? [];
    if (!attribute || Number(most) < 1) throw new Mistake(`Expected an attribute and a number, such as creator = 2, found ${pair}.`);
    return { attribute, maxPerValue: Number(most) };
  });
}

/** Kept places such as `published_at 7 5` or `7d 5`: an attribute, an age in days or with a unit, and how many. */
function fresh(text) {
  const words = text.split(/[\s,]+/).filter(Boolean);
  if (words.length !== 2 && words.length !== 3) {
    throw new Mistake(`Expected an age and places, such as published_at 7 5, found ${text.trim()}.`);
  }
  const [age, places] = words.slice(-2);
  const attribute = words.length === 3 ? { attribute: words[0] } : {};
  return { ...attribute, within: duration(/^[\d.]+$/.test(age) ? `${age}d` : age), atLeast: number(places, COUNT) };
}

/** Kept places such as `5:views < 100` or `20%:views < 100`, one per line. The filter is as typed, so that columns are right. */
function reserve(text) {
  return lines(text).map((line) => {
    const [, many, percent, filterText] = line.match(/^\s*([\d.]+)\s*(%?)\s*:(.*)$/) ?? [];
    if (many === undefined) throw new Mistake(`Expected places and a filter, such as 5:views < 100, found ${line.trim()}.`);
    if (!percent) return { atLeast: number(many, COUNT), filterText };
    return { share: number(many, { from: 0, to: 100, what: "a share up to 100%" }) / 100, filterText };
  });
}

function diversity(form) {
  const maxSimilarity = optional(form, "maxSimilarity", SHARE);
  const lambda = optional(form, "lambda", SHARE);
  return maxSimilarity === undefined && lambda === undefined ? undefined : { maxSimilarity, lambda };
}

/** What a text area has; undefined if it is empty. */
const given = (form, control, read) => (form[control].trim() ? within(control, () => read(form[control])) : undefined);

/** The SearchRequest of the form, to become JSON. Fields that are undefined are left out there. */
export function request(form, index) {
  const all = {
    ...query(form, index),
    k: within("k", () => number(form.k, COUNT)),
    params: params(form),
    filterText: form.filter.trim() ? form.filter : undefined,
    exclude: given(form, "exclude", (text) => asVideos(ids(text, index.hasTextIds), index.hasTextIds)),
    caps: given(form, "caps", caps),
    fresh: given(form, "fresh", fresh),
    scoreThreshold: optional(form, "threshold", {}),
    diversity: diversity(form),
    reserve: given(form, "reserve", reserve),
    scoreTerms: given(form, "terms", terms),
    offset: optional(form, "offset", { ...COUNT, from: 0, what: "a whole number" }) || undefined,
    embeddingModel: form.model.trim() || undefined,
    returnAttributes: ["*"],
    returnStats: true,
  };
  // Without the fields that are undefined, so that what is copied is what is sent.
  return JSON.parse(JSON.stringify(all));
}

/** Fields of a SearchRequest, and the controls that they are typed in. */
const CONTROLS = {
  "query.vector": "vector", "query.interests": "interests", "query.seeds": "video",
  vector: "vector", interests: "interests", seeds: "video",
  k: "k", "params.ef_search": "efSearch", "params.target_recall": "targetRecall", filter_text: "filter", exclude: "exclude", caps: "caps",
  fresh: "fresh", score_threshold: "threshold", "diversity.max_similarity": "maxSimilarity", "diversity.lambda": "lambda",
  reserve: "reserve", score_terms: "terms", offset: "offset", embedding_model: "model",
};

/** The control of a field such as `reserve[0].filter_text`, and the position in its list; undefined if there is none. */
export function controlOf(path) {
  const [, item] = path.match(/\[(\d+)\]/) ?? [];
  const name = path.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`).replaceAll(/\[.*?\]/g, "");
  const parts = name.split(".");
  for (let length = parts.length; length > 0; length--) {
    const control = CONTROLS[parts.slice(0, length).join(".")];
    if (control) return { control, item: item === undefined ? undefined : Number(item) };
  }
  return undefined;
}
