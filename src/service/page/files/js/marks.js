// The places of a search and its candidates on the map.

import { pathOf, post } from "./api.js";
import { id } from "./format.js";
import { asVideos } from "./ids.js";

const MOST = 100;

/** The marks of a search: [{kind, name, x, y, video}]. None without a search, or without the axes of a plane. */
export async function marksOf(index, { mean = [], first, second }, search, signal) {
  if (!search || !first || !second) return [];
  const { sent, candidates } = search;
  const place = (vector) => {
    const from = normed(vector, index.metric).map((value, at) => value - (mean[at] ?? 0));
    const along = (axis) => from.reduce((sum, value, at) => sum + axis[at] * value, 0);
    return { x: along(first), y: along(second) };
  };
  const vectors = async (kind, ids) => {
    const found = await stored(index, ids, signal);
    return found.map((video) => ({ kind, name: `${kind} ${id(video)}`, video: id(video), ...place(video.vector.values) }));
  };
  const queries = sent.vector ? [{ kind: "query", name: "the query", ...place(sent.vector.values) }] : [];
  const interests = (sent.interests?.interests ?? []).map(({ vector }, at) =>
    ({ kind: "interest", name: `interest ${at + 1}`, ...place(vector.values) }));
  const seeds = (sent.seeds?.seeds ?? []).map(id);
  const [ofSeeds, ofCandidates] = await Promise.all([vectors("seed", seeds), vectors("candidate", candidates.slice(0, MOST).map(id))]);
  return [...queries, ...interests, ...ofSeeds, ...ofCandidates];
}

/** The plane of an index with metric cosine is one of embeddings of norm 1. */
function normed(vector, metric) {
  const norm = metric === "METRIC_COSINE" ? Math.hypot(...vector) || 1 : 1;
  return vector.map((value) => value / norm);
}

async function stored(index, ids, signal) {
  if (!ids.length) return [];
  const answer = await post(`${pathOf(index)}/videos:get`, { ...asVideos(ids, index.hasTextIds), returnVectors: true }, signal);
  return (answer.results ?? []).map((lookup) => lookup.video).filter((video) => video?.vector?.values);
}
