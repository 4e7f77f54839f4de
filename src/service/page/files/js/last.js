// The last search, which the map marks.

let last;

/** Keeps a search of an index, and its answer. */
export function remember(index, sent, answer) {
  last = { index: index.name, sent, candidates: answer.candidates ?? [] };
}

/** The last search, if it was of this index: {sent, candidates}. */
export const recall = (index) => (last?.index === index.name ? last : undefined);

/** Another key may not be allowed to see it. */
export function forget() {
  last = undefined;
}
