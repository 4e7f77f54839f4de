// The form of a search: its controls, and their values in the address.

import { completes } from "./complete.js";
import { el, field } from "./dom.js";
import { forGood } from "./storage.js";

const TEMPLATE = "shortlist-thumbnail";
/** Vectors with more characters are not in the address, because programs that pass links on cut long ones. */
const LONGEST = 2000;
/** Texts that are too long for the address, by control, until the page is loaded again. */
const long = new Map();

/** The most sample users that the form offers. */
export const USERS = 20;

/** Another key may not be allowed to see what was typed. */
export const forget = () => long.clear();

/** Shows the controls of the source and the effort that are chosen. */
function settle(controls, parts) {
  for (const name of ["user", "video", "vector", "interests"]) parts[name].hidden = controls.source.value !== name;
  for (const name of ["ef", "recall"]) parts[name].hidden = controls.effort.value !== name;
}

/** Makes the form. */
export function searchForm(index, signal) {
  const controls = allControls(index);
  const parts = choices(controls, index);
  const note = el("p", { class: "faint" });
  let users = [];
  const defaults = textsOf(controls);
  controls.thumbnail.value = forGood.get(TEMPLATE);
  const element = layout(controls, parts, completes(controls.filter, index, signal), note);
  element.addEventListener("change", () => settle(controls, parts));
  settle(controls, parts);
  return {
    element, controls,
    values: () => {
      forGood.set(TEMPLATE, controls.thumbnail.value.trim());
      const typed = textsOf(controls);
      return { ...typed, sample: typed.source === "user" ? users[Number(typed.user)] : undefined };
    },
    /** The values that differ from the default ones, for the address. */
    inAddress: () => inAddress(controls, defaults),
    /** Takes the values of an address. */
    take: (values) => {
      take(values, controls, index);
      settle(controls, parts);
      for (const details of element.querySelectorAll("details")) details.open = hasOther(details, controls, defaults);
    },
    /** Takes the answer of SampleUsers, which may have no users, or not as many. */
    offer: (sample) => {
      users = sample.users ?? [];
      offer(users.length, controls);
      note.textContent = users.length ? `Users: ${sample.source}` : sample.reason ?? `No sample users: ${sample.source}`;
      settle(controls, parts);
    },
    keepLong: () => keepLong(controls, index),
    /** Adds a video to those that are left out. */
    exclude: (id) => {
      const before = controls.exclude.value.trim();
      controls.exclude.value = before ? `${before}${index.hasTextIds ? "\n" : ", "}${id}` : id;
    },
  };
}

const textsOf = (controls) => Object.fromEntries(Object.entries(controls).map(([name, control]) => [name, control.value]));

function keepLong(controls, index) {
  for (const name of ["vector", "interests"]) {
    const { value } = controls[name];
    if (value.length > LONGEST) long.set(`${index.name} ${name}`, value);
    else long.delete(`${index.name} ${name}`);
  }
}

/** The fields of which the source or the effort shows one. */
function choices(controls, index) {
  const grow = { class: "grow" };
  return {
    user: field("User", controls.user),
    video: field(index.hasTextIds ? "Ids of videos, one per line" : "Ids of videos", controls.video, grow),
    vector: field(`${index.dim ?? ""} numbers`, controls.vector, grow),
    interests: field("One vector per line", controls.interests, grow),
    ef: field("ef_search", controls.efSearch), recall: field("Target recall", controls.targetRecall),
  };
}

function take(values, controls, index) {
  for (const [name, control] of Object.entries(controls)) {
    const given = values.get(name) ?? long.get(`${index.name} ${name}`);
    if (given !== undefined && name !== "thumbnail") control.value = given;
    // A link may name a source that this key is not offered.
    if (control.selectedIndex === -1) control.selectedIndex = 0;
  }
}

function inAddress(controls, defaults) {
  const given = Object.entries(controls).filter(([name, control]) =>
    name !== "thumbnail" && !control.closest("label").hidden && control.value !== defaults[name] && control.value.length <= LONGEST);
  return Object.fromEntries(given.map(([name, control]) => [name, control.value]));
}

/** Whether a part of the form has values that differ from the default ones. */
const hasOther = (part, controls, defaults) => Object.entries(controls).some(([name, control]) =>
  name !== "thumbnail" && part.contains(control) && control.value !== defaults[name]);

/** Offers as many users as there are. Without any, another source is chosen. */
function offer(count, { source, user }) {
  for (const option of [...user.options].slice(Math.max(count, 1))) option.remove();
  if (user.selectedIndex === -1) user.selectedIndex = 0;
  if (count) return;
  const isChosen = source.value === "user";
  source.querySelector("[value=user]").remove();
  if (isChosen) source.value = "video";
}

function allControls(index) {
  const text = (properties) => el("input", { type: "text", autocomplete: "off", ...properties });
  const number = (value = "") => text({ inputmode: "decimal", size: 8, value });
  const area = (rows, placeholder) => el("textarea", { rows, spellcheck: false, placeholder });
  const idArea = () => (index.hasTextIds ? area(2, "one id per line") : text({ placeholder: "ids" }));
  const select = (...options) => el("select", {}, options.map(([value, label]) => el("option", { value }, label)));
  const controls = {
    source: select(["user", "A sample user"], ["video", "A video: more like this"], ["vector", "A vector"],
      ["interests", "Several interests"]),
    user: select(...Array.from({ length: USERS }, (_, at) => [String(at), `User ${at + 1}`])),
    video: idArea(), vector: area(3), interests: area(4),
    k: number("20"), effort: select(["", "Default"], ["ef", "ef_search"], ["recall", "Target recall"], ["exact", "Exact"]),
    efSearch: number("200"), targetRecall: number("0.95"),
    filter: area(2), exclude: idArea(), caps: text({ placeholder: "creator = 2" }), fresh: text({ placeholder: "published_at 7 5" }),
    maxSimilarity: number(), lambda: number(), threshold: number(), terms: area(2, "0.1*log1p(views)"), reserve: area(2, "5:views < 100"),
    offset: number(), model: text({}), thumbnail: text({ placeholder: "https://…/{video_id}.jpg" }),
  };
  for (const [name, control] of Object.entries(controls)) control.id = `try-${name}`;
  return controls;
}

function layout(controls, parts, suggestions, note) {
  const grow = { class: "grow" };
  return el("form", { novalidate: true },
    el("fieldset", {}, el("legend", {}, "Query"),
      el("div", { class: "row" }, field("From", controls.source), parts.user, parts.video, parts.vector, parts.interests),
      note),
    el("fieldset", {}, el("legend", {}, "Rules"),
      el("div", { class: "completed" }, field("Filter, such as region = \"US\"", controls.filter, grow), suggestions),
      el("div", { class: "row" },
        field("Exclude", controls.exclude), field("Caps", controls.caps), field("Fresh: attribute, days, places", controls.fresh),
        field("Maximum similarity", controls.maxSimilarity), field("Lambda (MMR)", controls.lambda),
        field("Score threshold", controls.threshold)),
      el("details", {}, el("summary", {}, "More"),
        el("div", { class: "row" }, field("Score terms, one per line", controls.terms, grow),
          field("Reserve, one per line", controls.reserve, grow)),
        el("div", { class: "row" }, field("Offset", controls.offset), field("Embedding model", controls.model),
          field("Thumbnails (https:// only)", controls.thumbnail, grow)))),
    el("div", { class: "row" }, field("k", controls.k), field("Effort", controls.effort), parts.ef, parts.recall,
      el("button", { class: "primary" }, "Search")));
}
