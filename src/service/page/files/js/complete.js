// Completes a filter while it is typed: a list below the text area, by the combobox pattern of ARIA.

import { latest, pathOf, post } from "./api.js";
import { announce, el, fill } from "./dom.js";
import { word } from "./format.js";
import { nameOf, operators, textOf, typed } from "./typing.js";

const SHOWN = 8;
/** Milliseconds without typing after which values are asked for. */
const PAUSE = 200;
/** Values that are asked for once; of an attribute with more, those with a prefix are asked for. */
const KNOWN = 1000;

/** Values of an attribute that begin with a prefix in upper or lower case, as far as they are known. */
function values(index) {
  const known = new Map();
  const ask = async (attribute, prefix, signal) => {
    const answer = await post(`${pathOf(index)}/values:list`, { attribute, prefix, limit: KNOWN }, signal);
    return answer.values ?? [];
  };
  return async (attribute, prefix, signal) => {
    const frequent = known.get(attribute) ?? await ask(attribute, "", signal);
    known.set(attribute, frequent);
    const all = frequent.length < KNOWN ? frequent : [...frequent, ...await ask(attribute, prefix, signal)];
    const fit = new Map(all.map((of) => [of.value, of]));
    return [...fit.values()].filter((of) => of.value.toLowerCase().startsWith(prefix.toLowerCase()));
  };
}

/** What can be put in place of what is typed: [{text, label, hint}]. */
function suggestions(index) {
  const attributes = index.attributes ?? [];
  const valuesOf = values(index);
  return async (at, signal) => {
    const begins = (text) => text.toLowerCase().startsWith(at.prefix.toLowerCase());
    const plain = (all) => all.filter(begins).map((text) => ({ text, label: text.trim() }));
    if (at.operatorsOf) {
      const attribute = attributes.find((of) => of.name === at.operatorsOf);
      return attribute ? plain(operators(attribute.kind)) : [];
    }
    if (at.valuesOf) {
      const kind = attributes.find((of) => of.name === at.valuesOf)?.kind ?? "";
      if (kind.endsWith("BOOL")) return plain(["true", "false"]);
      if (!kind.includes("KEYWORD")) return [];
      const found = await valuesOf(at.valuesOf, at.prefix, signal);
      return found.map(({ value, videos }) => ({ text: textOf(value), label: value, hint: `(${videos ?? 0})` }));
    }
    if (at.names) {
      return attributes.filter((of) => begins(of.name) && of.name !== at.prefix)
        .map(({ name, kind }) => ({ text: `${nameOf(name)} `, label: name, hint: `(${word(kind, "ATTRIBUTE_KIND_")})` }));
    }
    return at.prefix ? plain((at.joins ?? []).map((join) => `${join} `)) : [];
  };
}

/** Makes a text area one with suggestions. Returns their list, to be put below it. */
export function completes(area, index, signal) {
  const list = el("ul", { id: `${area.id}-list`, class: "options", role: "listbox", "aria-label": "Suggestions", hidden: true });
  const suggest = suggestions(index);
  const options = optionsOf(area, list, (option) => {
    area.setRangeText(option.text, option.start, option.end, "end");
    area.dispatchEvent(new Event("input", { bubbles: true }));
  });
  const next = latest(signal);
  let looked = -1;
  const look = async () => {
    const now = next();
    looked = area.selectionStart;
    const { start, end, ...at } = typed(area.value, looked);
    if (at.valuesOf) await pause();
    if (now.aborted) return;
    const all = await suggest(at, now).catch(() => []);
    if (now.aborted || document.activeElement !== area) return;
    const shown = all.slice(0, SHOWN).map((option) => ({ ...option, start, end }));
    options.show(shown);
    if (shown.length) announce(shown.length === 1 ? "1 suggestion" : `${shown.length} suggestions`);
  };
  const close = () => {
    next();
    options.show([]);
  };
  // The list is for one place: it closes at once when the caret moves.
  document.addEventListener("selectionchange", () => {
    if (document.activeElement !== area || area.selectionStart === looked) return;
    close();
    look();
  }, { signal });
  listen(area, list, options, look, close);
  return list;
}

/** Values are asked for once a person pauses. */
const pause = () => new Promise((resolve) => { setTimeout(resolve, PAUSE); });

/** The list as a listbox: which option is active is said by the text area, which keeps the focus. */
function optionsOf(area, list, choose) {
  let [shown, active] = [[], -1];
  const mark = (at) => {
    active = at;
    [...list.children].forEach((option, place) => option.setAttribute("aria-selected", String(place === at)));
    if (at < 0) area.removeAttribute("aria-activedescendant");
    else area.setAttribute("aria-activedescendant", list.children[at].id);
  };
  const properties = {
    role: "combobox", "aria-autocomplete": "list", "aria-haspopup": "listbox", "aria-expanded": "false", "aria-controls": list.id,
  };
  for (const [name, value] of Object.entries(properties)) area.setAttribute(name, value);
  return {
    show: (all) => {
      shown = all;
      fill(list, shown.map((option, at) => el("li", { id: `${list.id}-${at}`, role: "option", onclick: () => choose(option) },
        option.label, option.hint ? el("span", { class: "faint" }, ` ${option.hint}`) : null)));
      list.hidden = !shown.length;
      area.setAttribute("aria-expanded", String(!list.hidden));
      mark(-1);
    },
    move: (by) => mark(active < 0 && by < 0 ? shown.length - 1 : (active + by + shown.length) % shown.length),
    hasActive: () => active >= 0,
    chooseActive: () => choose(shown[active]),
  };
}

function listen(area, list, options, look, close) {
  area.addEventListener("input", look);
  area.addEventListener("blur", close);
  // A press would take the focus, and with it the list, before the click.
  list.addEventListener("mousedown", (event) => event.preventDefault());
  area.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    if (event.key === "ArrowDown") options.move(1);
    else if (event.key === "ArrowUp") options.move(-1);
    else if (event.key === "Enter" && options.hasActive()) options.chooseActive();
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
  });
}
