// Searches as a user would: query, rules, candidates, and why a video is not among them.

import { has, keep, read } from "./address.js";
import { latest, pathOf, post } from "./api.js";
import { announce, el, fill, focusOn, problem } from "./dom.js";
import { searchForm, USERS } from "./form.js";
import { remember } from "./last.js";
import { clear, lineOf, mark, Mistake, pointAt } from "./mistakes.js";
import { controlOf, request } from "./request.js";
import { results } from "./results.js";

/** Milliseconds without typing after which the address has the form. */
const PAUSE = 300;

export async function show(root, index, signal) {
  const form = searchForm(index, signal);
  const result = el("div");
  const address = inAddress(form, signal);
  const exclude = async (id) => {
    form.exclude(id);
    await submit();
    const head = result.querySelector("h2");
    if (head) focusOn(head);
  };
  tellOfPictures(form.controls.thumbnail, signal);
  const ready = sampleUsers(index, signal).then(form.offer);
  const search = searcher({ index, signal, form, ready, result, exclude });
  const submit = () => {
    address.step();
    return search();
  };
  form.element.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  root.append(el("h1", {}, "Try it"), form.element, result);
  const { values } = read();
  form.take(values);
  await ready;
  if (values.has("run") && has(Object.fromEntries(values))) await search();
}

/** Keeps the form in the address while it is filled in. `step` is for a search: Back leads to the one before. */
function inAddress(form, signal) {
  let timer;
  const keepForm = () => {
    clearTimeout(timer);
    form.keepLong();
    const values = form.inAddress();
    // A search that ran stays in the history.
    if (!signal.aborted && !has({ ...values, run: "1" })) keep(values, isSearched());
  };
  form.element.addEventListener("change", keepForm);
  form.element.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(keepForm, PAUSE);
  });
  signal.addEventListener("abort", () => clearTimeout(timer));
  return {
    step: () => {
      clearTimeout(timer);
      form.keepLong();
      keep({ ...form.inAddress(), run: "1" }, isSearched());
    },
  };
}

/** Searches for what the form has, and shows the answer. The answer to an earlier search is not shown. */
function searcher({ index, signal, form, ready, result, exclude }) {
  const next = latest(signal);
  const search = async () => {
    const now = next();
    clear(form.element);
    try {
      if (form.controls.source.value === "user") await ready;
      const values = form.values();
      const sent = request(values, index);
      const template = templateOf(values.thumbnail);
      fill(result, el("p", {}, "Searching …"));
      const answer = await post(`${pathOf(index)}:search`, sent, now);
      remember(index, sent, answer);
      fill(result, results({ index, signal, sent, answer, template, texts: texts(values), form: form.inAddress(), exclude }));
      announce(`${answer.candidates?.length ?? 0} candidates`);
    } catch (error) {
      if (now.aborted) return;
      fill(result, complain(form.controls, error) ? el("p", {}, "Nothing was searched.") : problem(error, search));
    }
  };
  return search;
}

/** Whether the address is that of a search that ran, and not of a form that is being filled in. */
const isSearched = () => read().values.has("run");

/** Users to search for. A key or a server may have none; `reason` says why. */
async function sampleUsers(index, signal) {
  try {
    return await post(`${pathOf(index)}/users:sample`, { count: USERS }, signal);
  } catch (error) {
    if (error.isAway || signal.aborted) throw error;
    const isOfAdmin = error.http === 403 || error.http === 404;
    return { reason: isOfAdmin ? "Sample users need the role admin and the administration address." : error.message };
  }
}

const texts = ({ terms, reserve }) => {
  const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);
  return { scoreTerms: lines(terms), reserve: lines(reserve) };
};

/** The template of thumbnails, which this page may load over https:// only; or an attribute that has the template. */
function templateOf(text) {
  if (text.trim() && !/^(https:\/\/|\{\w+\}$)/.test(text.trim())) {
    throw new Mistake(`Expected an address that begins with https://, or {attribute}, found ${text.trim()}.`, "thumbnail");
  }
  return text.trim();
}

/** A browser loads pictures from the origins only that a setting of the server allows. */
function tellOfPictures(control, signal) {
  document.addEventListener("securitypolicyviolation", ({ effectiveDirective, blockedURI }) => {
    if (effectiveDirective !== "img-src" || control.hasAttribute("aria-invalid")) return;
    mark(control, `The setting web_page_images does not allow pictures from ${new URL(blockedURI).origin}.`);
  }, { signal });
}

/** Shows a mistake at its control, with the caret at its place. Returns whether it is of any. */
function complain(controls, error) {
  const found = error instanceof Mistake
    ? [{ control: error.control, text: error.message }]
    : (error.fields ?? []).map(({ field, description }) => ({ ...controlOf(field), text: description }));
  const wrong = found.filter(({ control }) => control in controls && !controls[control].closest("label").hidden);
  for (const { control, text } of wrong) mark(controls[control], text);
  if (wrong.length) point(controls[wrong[0].control], wrong[0]);
  return wrong.length > 0;
}

function point(area, { control, item, text }) {
  const isList = (control === "reserve" || control === "terms") && item !== undefined;
  if (control !== "filter" && !isList) {
    area.focus();
    return;
  }
  const [start, end] = isList ? lineOf(area.value, item) : [0, area.value.length];
  pointAt(area, text, control === "reserve" ? area.value.indexOf(":", start) + 1 : start, end);
}
