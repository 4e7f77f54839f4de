// Score terms as text, such as 0.1*log1p(views): the same form as on the command line and in the Python package.

const FORMS = "linear(a), log1p(a), clamp(a, from, to), decay(a, 7d), window(a, 30d) or match(a, \"word\")";
const UNITS = { s: 1, m: 60, h: 3600, d: 86400, w: 604800 };

function duration(text) {
  const found = text.match(/^([\d.]+)([smhdw])$/);
  if (!found) throw new Error(`Expected a duration such as 7d, found ${text}.`);
  return `${Number(found[1]) * UNITS[found[2]]}s`;
}

/** The arguments within the parentheses: words, or text in quotes. */
function split(text) {
  return [...text.matchAll(/"((?:[^"\\]|\\.)*)"|[^,\s][^,]*/g)].map((found) => (found[1] === undefined ? found[0].trim() : JSON.parse(`"${found[1]}"`)));
}

/** The ScoreTerm of a text, as JSON. */
export function term(text) {
  const found = text.trim().match(/^(?:([-+.\deE]+)\s*\*\s*)?(\w+)\s*\((.*)\)$/);
  if (!found) throw new Error(`Expected a term such as 0.1*log1p(views), found ${text}.`);
  const [, weight = "1", name, inner] = found;
  const [attribute, ...rest] = split(inner);
  const of = { attribute, weight: Number(weight) };
  switch (name) {
    case "linear": return { ...of, linear: {} };
    case "log1p": return { ...of, log1p: {} };
    case "clamp": return { ...of, clamp: { from: Number(rest[0]), to: Number(rest[1]) } };
    case "decay": return { ...of, decay: { halfLife: duration(rest[0] ?? "") } };
    case "window": return { ...of, decay: { window: duration(rest[0] ?? "") } };
    case "match": return { ...of, match: { anyOf: rest } };
    default: throw new Error(`Expected ${FORMS}, found ${name}.`);
  }
}

/** Terms, one per line. */
export const terms = (text) => text.split("\n").filter((line) => line.trim()).map(term);
