// Completes names and values of attributes in a filter, and puts the caret at a mistake.

import { of, post } from "./api.js";
import { el, fill } from "./dom.js";
import { word } from "./format.js";

/** What is typed before the caret: a name, or a value of an attribute. */
export function typed(text, caret) {
  const before = text.slice(0, caret);
  const ofValue = before.match(/([A-Za-z_][\w.]*)\s*(?:=|!=|(?:any|all|none)?\s*in\s*\((?:[^()]*,)?)\s*"([^"]*)$/);
  if (ofValue) return { attribute: ofValue[1], prefix: ofValue[2] };
  const name = before.match(/(?:^|[\s(])([A-Za-z_][\w.]*)$/);
  return { prefix: name?.[1] ?? "" };
}

/** The position of a line and a column, which count from 1, in characters. */
export function position(text, line, column) {
  const lines = text.split("\n");
  const before = lines.slice(0, line - 1).reduce((sum, of) => sum + of.length + 1, 0);
  return before + [...lines[line - 1] ?? ""].slice(0, column - 1).join("").length;
}

/** Shows suggestions below a text area. */
export function completes(area, index, attributes) {
  const list = el("ul", { class: "legend", "aria-label": "Suggestions" });
  let asked = 0;
  const insert = (prefix, text) => {
    const caret = area.selectionStart;
    area.setRangeText(text, caret - prefix.length, caret, "end");
    area.focus();
    suggest();
  };
  const show = (prefix, all, suffix) => fill(list, all.slice(0, 8).map(({ text, hint }) =>
    el("li", {}, el("button", { type: "button", onclick: () => insert(prefix, text + suffix) }, `${text} ${hint}`))));
  const suggest = async () => {
    const mine = ++asked;
    const { attribute, prefix } = typed(area.value, area.selectionStart);
    if (!attribute) {
      const names = attributes.filter((of) => of.name.startsWith(prefix) && of.name !== prefix);
      show(prefix, names.map((of) => ({ text: of.name, hint: `(${word(of.kind, "ATTRIBUTE_KIND_")})` })), " ");
      return;
    }
    try {
      const answer = await post(`${of(index)}/values:list`, { attribute, prefix, limit: 8 });
      if (mine === asked) show(prefix, (answer.values ?? []).map((of) => ({ text: of.value, hint: `(${of.videos ?? 0})` })), "\"");
    } catch {
      // Numbers and other kinds have no values to suggest.
      if (mine === asked) fill(list);
    }
  };
  area.addEventListener("input", suggest);
  area.addEventListener("click", suggest);
  return list;
}

/** Puts the caret where a message says that the mistake is. */
export function pointAt(area, message) {
  const place = message.match(/line (\d+), column (\d+)/);
  const name = message.match(/attribute "([^"]+)"/)?.[1];
  const at = place ? position(area.value, Number(place[1]), Number(place[2])) : name ? area.value.indexOf(name) : -1;
  if (at < 0) return;
  area.focus();
  area.setSelectionRange(at, Math.min(at + (place ? 1 : name.length), area.value.length));
}
