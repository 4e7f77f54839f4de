// What is wrong with a form: at the control, in words, and with the caret at the place.

import { el } from "./dom.js";

/** Something that a person typed and that cannot be sent. `control` is the name of its control. */
export class Mistake extends Error {
  constructor(message, control) {
    super(message);
    this.control = control;
  }
}

/** Runs `read`; its mistakes are of a control. */
export function within(control, read) {
  try {
    return read();
  } catch (error) {
    if (error instanceof Mistake) error.control ??= control;
    throw error;
  }
}

/** Marks a control as wrong, and says why below it. */
export function mark(control, message) {
  const id = `${control.id}-mistake`;
  document.getElementById(id)?.remove();
  control.setAttribute("aria-invalid", "true");
  control.setAttribute("aria-describedby", id);
  control.closest("label").after(el("p", { id, class: "bad mistake", role: "alert" }, message));
  for (let part = control.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
}

/** Removes all marks of a form. */
export function clear(form) {
  for (const control of form.querySelectorAll("[aria-invalid]")) {
    control.removeAttribute("aria-invalid");
    control.removeAttribute("aria-describedby");
  }
  for (const note of form.querySelectorAll(".mistake")) note.remove();
}

/** The position of a line and a column, which count from 1, in the units of a text area. */
function position(text, line, column) {
  const lines = text.split("\n");
  const before = lines.slice(0, line - 1).reduce((sum, of) => sum + of.length + 1, 0);
  return before + [...lines[line - 1] ?? ""].slice(0, column - 1).join("").length;
}

/** Where an attribute is named, outside of text in quotes; -1 if it is not. */
function named(text, name) {
  const tokens = /"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|`[^`]*`?|[A-Za-z_][\w.]*/g;
  return [...text.matchAll(tokens)].find(([token]) => token === name || token === `\`${name}\``)?.index ?? -1;
}

/** Puts the caret where a message says that the mistake is, in the part of a text area between two positions. */
export function pointAt(area, message, from = 0, to = area.value.length) {
  const part = area.value.slice(from, to);
  const [, line, column] = message.match(/line (\d+), column (\d+)/) ?? [];
  const name = message.match(/attribute "([^"]+)"/)?.[1];
  const at = line ? position(part, Number(line), Number(column)) : name ? named(part, name) : -1;
  area.focus();
  if (at < 0) area.setSelectionRange(from, to);
  else area.setSelectionRange(from + at, Math.min(from + at + (line ? 1 : name.length), to));
}

/** The start and end of the line of an item, of lines of which empty ones do not count. */
export function lineOf(text, item) {
  let [start, left] = [0, item];
  for (const line of text.split("\n")) {
    if (line.trim() && left-- === 0) return [start, start + line.length];
    start += line.length + 1;
  }
  return [0, text.length];
}
