// Score terms as text, such as 0.1*log1p(views): the same form as on the command line and in the Python package.

import { Mistake } from "./mistakes.js";

const FORMS = "linear(a), log1p(a), clamp(a, from, to), decay(a, 7d), window(a, 30d) or match(a, \"word\")";
const UNITS = { s: 1, m: 60, h: 3600, d: 86400, w: 604800 };

/** The duration of a text such as 7d, as JSON. */
export function duration(text) {
  const [, many, unit] = text.match(/^(\d*\.?\d+)([smhdw])$/) ?? [];
  // A duration in JSON has at most nine digits after the point.
  const seconds = (Number(many ?? 0) * UNITS[unit ?? "s"]).toFixed(9).replace(/\.?0+$/, "");
  if (seconds === "0") throw new Mistake(`Expected a duration such as 7d, found ${text || "nothing"}.`);
  return `${seconds}s`;
}

/** The arguments within the parentheses: words, or text in quotes. */
function split(text) {
  const found = [...text.matchAll(/"((?:[^"\\]|\\.)*)"|[^,\s][^,]*/g)];
  return found.map(([word, quoted]) => (quoted === undefined ? word.trim() : unquoted(quoted)));
}

function unquoted(text) {
  try {
    return JSON.parse(`"${text}"`);
  } catch {
    throw new Mistake(`Expected a text with escapes such as \\" or \\n, found "${text}".`);
  }
}

function number(text) {
  const value = Number(text);
  if (!text?.trim() || !Number.isFinite(value)) throw new Mistake(`Expected a number in a score term, found ${text || "nothing"}.`);
  return value;
}

/** The ScoreTerm of a text, as JSON. */
function term(text) {
  const found = text.trim().match(/^(?:([-+.\deE]+)\s*\*\s*)?(\w+)\s*\((.*)\)$/);
  if (!found) throw new Mistake(`Expected a term such as 0.1*log1p(views), found ${text.trim()}.`);
  const [, weight = "1", name, inner] = found;
  const [attribute, ...rest] = split(inner);
  if (!attribute) throw new Mistake(`Expected an attribute in the parentheses, such as ${name}(views).`);
  const of = { attribute, weight: number(weight) };
  switch (name) {
    case "linear": return { ...of, linear: {} };
    case "log1p": return { ...of, log1p: {} };
    case "clamp": return { ...of, clamp: { from: number(rest[0]), to: number(rest[1]) } };
    case "decay": return { ...of, decay: { halfLife: duration(rest[0] ?? "") } };
    case "window": return { ...of, decay: { window: duration(rest[0] ?? "") } };
    case "match": return { ...of, match: { anyOf: rest } };
    default: throw new Mistake(`Expected ${FORMS}, found ${name}.`);
  }
}

/** Terms, one per line. */
export const terms = (text) => text.split("\n").filter((line) => line.trim()).map(term);
