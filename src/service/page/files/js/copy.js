// A request as a command or a program, to be copied.

import { of } from "./api.js";

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function curl(index, request) {
  return `curl -s ${location.origin}${of(index)}:search -H 'content-type: application/json' \\\n  -H "authorization: Bearer $KEY" \\\n  -d ${quoted(JSON.stringify(request))}`;
}

export function grpcurl(index, request) {
  const plain = location.protocol === "https:" ? "" : "-plaintext ";
  return `grpcurl ${plain}-H "authorization: Bearer $KEY" \\\n  -d ${quoted(JSON.stringify({ index, ...request }))} \\\n  ${location.host} shortlist.v1.Retrieval/Search`;
}

/** A program for the Python package, which takes score terms as text. */
export function python(index, request, { scoreTerms }) {
  const text = (value) => JSON.stringify(value).replaceAll("true", "True").replaceAll("false", "False").replaceAll("null", "None");
  const seeds = request.seeds?.seeds.map((seed) => seed.textId ?? BigInt(seed.videoId));
  const query = seeds
    ? `shortlist.Seeds([${seeds.map((seed) => (typeof seed === "bigint" ? seed : text(seed))).join(", ")}])`
    : request.interests
      ? `shortlist.Interests(np.array(${text(request.interests.interests.map((interest) => interest.vector.values))}, np.float32))`
      : `np.array(${text(request.vector.values)}, np.float32)`;
  const given = [];
  const add = (name, value) => { if (value !== undefined) given.push(`    ${name}=${value},`); };
  add("filter", request.filterText && text(request.filterText));
  const excluded = request.exclude && (request.exclude.textIds ? text(request.exclude.textIds) : `[${request.exclude.videoIds.join(", ")}]`);
  add("exclude", excluded);
  add("caps", request.caps && text(Object.fromEntries(request.caps.map((cap) => [cap.attribute, cap.maxPerValue]))));
  if (request.fresh) add("fresh", `shortlist.Fresh("published_at", timedelta(seconds=${Number.parseInt(request.fresh.within, 10)}), ${request.fresh.atLeast})`);
  add("reserve", request.reserve && text(request.reserve.map((of) => `${of.share ? `${of.share * 100}%` : of.atLeast}:${of.filterText}`)));
  add("max_similarity", request.diversity?.maxSimilarity);
  add("mmr_lambda", request.diversity?.lambda);
  add("score_threshold", request.scoreThreshold);
  add("score_terms", scoreTerms.length ? text(scoreTerms) : undefined);
  add("ef_search", request.params?.efSearch);
  add("target_recall", request.params?.targetRecall);
  add("exact", request.params?.exact && "True");
  add("offset", request.offset);
  add("embedding_model", request.embeddingModel && text(request.embeddingModel));
  return `from datetime import timedelta\n\nimport numpy as np\nimport shortlist\n\nclient = shortlist.Client(${text(location.host)}, index=${text(index)})\nfound = client.search(\n    ${query},\n    ${request.k},\n    attributes="all",\n${given.join("\n")}\n)\nprint(found.ids, found.scores)`;
}
