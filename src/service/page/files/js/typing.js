// What may follow in a filter at the place where a person types.

const TOKEN = new RegExp([
  /(?<text>"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?)/, /(?<name>`[^`]*`?|[A-Za-z_][\w.]*)/, /(?<sign>[<>=!]+)/, /(?<mark>[(),])/,
  /(?<value>[^\s(),<>=!"'`]+)/,
].map((part) => part.source).join("|"), "g");
const WORDS = new Set("and or not at least of in between contains any all is null true false now".split(" "));
const JOINS = ["and", "or"];
/** Before these, a condition is complete. */
const ENDS = new Set(["null", "true", "false", "now"]);

const OPERATORS = {
  KEYWORD: ["= ", "!= ", "in (", "not in (", "is null", "is not null"],
  KEYWORD_LIST: ["contains ", "contains any (", "contains all (", "is null", "is not null"],
  BOOL: ["= true", "= false", "is null", "is not null"],
  TIMESTAMP: ["> -7d", "> ", ">= ", "< ", "<= ", "between ", "is null", "is not null"],
  NUMBER: ["= ", "!= ", "> ", ">= ", "< ", "<= ", "between ", "is null", "is not null"],
};

/** The operators of an attribute of a kind such as ATTRIBUTE_KIND_INT64. */
export function operators(kind) {
  return OPERATORS[(kind ?? "").replace("ATTRIBUTE_KIND_", "")] ?? OPERATORS.NUMBER;
}

/** A name as a filter has it. */
export const nameOf = (name) => (/^[A-Za-z_][\w.]*$/.test(name) && !WORDS.has(name.toLowerCase()) ? name : `\`${name}\``);

/** A text as a filter has it. */
export const textOf = (value) => `"${value.replaceAll("\\", "\\\\").replaceAll("\"", "\\\"").replaceAll("\n", "\\n")}"`;

function tokens(text) {
  return [...text.matchAll(TOKEN)].map((found) => {
    const [kind] = Object.entries(found.groups).find(([, value]) => value !== undefined);
    const isWord = kind === "name" && WORDS.has(found[0].toLowerCase());
    const [start, end] = [found.index, found.index + found[0].length];
    return isWord ? { kind: "word", text: found[0].toLowerCase(), start, end } : { kind, text: found[0], start, end };
  });
}

/** The attribute whose values are in the list that is open at the end; undefined if it is no such list. */
function listed(before) {
  const open = before.findLastIndex((token) => token.text === "(");
  const isClosed = before.slice(open).some((token) => token.text === ")");
  if (open < 0 || isClosed || !["in", "any", "all"].includes(before[open - 1]?.text)) return undefined;
  return before.slice(0, open).findLast((token) => token.kind === "name")?.text;
}

/** What may come after these tokens: {names}, {operatorsOf}, {valuesOf} or {joins}. */
function next(before) {
  const last = before.at(-1);
  if (!last) return { names: true };
  const ofList = last.text === "(" || last.text === "," ? listed(before) : undefined;
  if (ofList) return { valuesOf: ofList };
  const ofWord = last.text === "contains" || last.kind === "sign" ? before.at(-2) : undefined;
  if (ofWord?.kind === "name") return { valuesOf: ofWord.text };
  if (last.kind === "name") return { operatorsOf: last.text };
  if (["text", "value"].includes(last.kind) || last.text === ")" || ENDS.has(last.text)) return { joins: JOINS };
  return ["in", "any", "all", "at", "least", "of", "between", "is"].includes(last.text) || last.kind === "sign" ? {} : { names: true };
}

/** The end of what is typed: with the rest of a word, and the quote that closes it. */
function endOf(text, caret, isText) {
  return caret + text.slice(caret).match(isText ? /^(?:[^"\s]*")?/ : /^[\w.]*`?/)[0].length;
}

/** What is typed at the caret: its start and end, the part before the caret, and what it may be. */
export function typed(text, caret) {
  const all = tokens(text.slice(0, caret));
  const last = all.at(-1);
  const isClosed = last?.kind === "text" && /^(["']).*\1$/s.test(last.text);
  const isOpen = last?.end === caret && !isClosed && last.kind !== "mark" && last.kind !== "sign";
  const word = isOpen ? last : undefined;
  const follows = next(word ? all.slice(0, -1) : all);
  const plain = (name) => name?.replaceAll("`", "");
  return {
    start: word?.start ?? caret, end: word ? endOf(text, caret, word.kind === "text") : caret,
    prefix: (word ? word.text : "").replace(/^["'`]/, ""),
    ...follows, operatorsOf: plain(follows.operatorsOf), valuesOf: plain(follows.valuesOf),
  };
}
