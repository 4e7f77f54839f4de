// Ids of videos in requests. Whether they are numbers or text is a property of the index: a text may look like a number.

import { Mistake } from "./mistakes.js";

const MOST = 2n ** 64n - 1n;

function number(text) {
  if (!/^\d+$/.test(text) || BigInt(text) > MOST) throw new Mistake(`Expected ids that are whole numbers up to ${MOST}, found ${text}.`);
  // The server gives ids without leading zeros.
  return BigInt(text).toString();
}

/** The ids in a text: one per line if they are text, because those may have spaces and commas. */
export function ids(text, isText) {
  if (!isText) return text.split(/[\s,]+/).filter(Boolean).map(number);
  return text.split("\n").map((line) => line.trim()).filter(Boolean);
}

/** The only id in a text. */
export function oneId(text, isText) {
  const found = ids(text, isText);
  if (found.length !== 1) throw new Mistake(found.length ? `Expected one id, found ${found.length}.` : "Expected the id of a video.");
  return found[0];
}

/** The field of a request for several ids. */
export const asVideos = (all, isText) => (isText ? { textIds: all } : { videoIds: all });

/** The field of a request for one id. */
export const asVideo = (id, isText) => (isText ? { textId: id } : { videoId: id });
