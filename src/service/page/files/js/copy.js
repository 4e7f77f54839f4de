// A request as a command or a program, to be copied. A key is never copied: a variable of the shell or a placeholder takes its place.

import { key, pathOf } from "./api.js";

/** A word for the shell, whatever it has. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
/** The header with the key, if there is one. The shell puts the variable in. */
const credential = () => (key.get() ? " \\\n  -H \"authorization: Bearer $SHORTLIST_KEY\"" : "");

export function curl(index, request) {
  return `curl -s ${quoted(`${location.origin}${pathOf(index)}:search`)} -H 'content-type: application/json'${credential()} \\
  -d ${quoted(JSON.stringify(request))}`;
}

export function grpcurl(index, request) {
  const plain = location.protocol === "https:" ? "" : " -plaintext";
  const port = location.port || (location.protocol === "https:" ? "443" : "80");
  return `grpcurl${plain}${credential()} \\
  -d ${quoted(JSON.stringify({ index: index.name, ...request }))} \\
  ${quoted(`${location.hostname}:${port}`)} shortlist.v1.Retrieval/Search`;
}

/** A value as a literal of Python. The escapes of JSON are those of Python. */
function literal(value) {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null || value === undefined) return "None";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, of]) => `${literal(name)}: ${literal(of)}`).join(", ")}}`;
  return JSON.stringify(value);
}

/** Ids, which are numbers in Python unless they are text. */
const idList = (all, isText) => `[${all.map((id) => (isText ? literal(id) : id)).join(", ")}]`;

const array = (values) => `np.array(${literal(values)}, np.float32)`;

function query(request, index) {
  if (request.seeds) {
    const seeds = request.seeds.seeds.map((seed) => seed.textId ?? seed.videoId);
    return `shortlist.Seeds(${idList(seeds, index.hasTextIds)})`;
  }
  if (request.interests) return `shortlist.Interests(${array(request.interests.interests.map((interest) => interest.vector.values))})`;
  return array(request.vector.values);
}

/** The options of `search`, as pairs of a name and Python. Those that the request does not have are undefined. */
function options(request, index, texts) {
  const { exclude, caps, fresh, reserve, diversity, params } = request;
  const given = (value) => (value === undefined ? undefined : literal(value));
  const within = fresh && `timedelta(seconds=${Number.parseFloat(fresh.within)})`;
  return [
    ["filter", given(request.filterText)],
    ["exclude", exclude && idList(exclude.textIds ?? exclude.videoIds, index.hasTextIds)],
    ["caps", caps && literal(Object.fromEntries(caps.map((cap) => [cap.attribute, cap.maxPerValue])))],
    ["fresh", fresh && `shortlist.Fresh(${literal(fresh.attribute ?? "published_at")}, ${within}, ${fresh.atLeast})`],
    ["reserve", reserve && literal(texts.reserve)],
    ["max_similarity", given(diversity?.maxSimilarity)],
    ["mmr_lambda", given(diversity?.lambda)],
    ["score_threshold", given(request.scoreThreshold)],
    ["score_terms", request.scoreTerms && literal(texts.scoreTerms)],
    ["ef_search", given(params?.efSearch)],
    ["target_recall", given(params?.targetRecall)],
    ["exact", given(params?.exact)],
    ["offset", given(request.offset)],
    ["embedding_model", given(request.embeddingModel)],
    ["attributes", literal("all")],
  ].filter(([, value]) => value !== undefined);
}

const isLoopback = (host) => host === "localhost" || host === "[::1]" || host.startsWith("127.");

/** A program for the Python package, which takes score terms and reserves as text. */
export function python(index, request, texts) {
  const scheme = location.protocol === "https:" ? "https://" : "";
  const port = location.port || (scheme ? "443" : "80");
  // Without insecure=True, the client sends a key over http:// to its own machine only.
  const insecure = scheme || isLoopback(location.hostname) ? "" : ", insecure=True";
  const token = key.get() ? `, token=os.environ["SHORTLIST_KEY"]${insecure}` : "";
  const arguments_ = [query(request, index), request.k, ...options(request, index, texts).map(([name, value]) => `${name}=${value}`)];
  const program = [
    `client = shortlist.Client(${literal(`${scheme}${location.hostname}:${port}`)}, index=${literal(index.name)}${token})`,
    `found = client.search(\n${arguments_.map((of) => `    ${of},\n`).join("")})`,
    "print(found.ids, found.scores)",
  ].join("\n");
  const standard = [token && "import os", program.includes("timedelta(") && "from datetime import timedelta"].filter(Boolean);
  const packages = [program.includes("np.array(") && "import numpy as np", "import shortlist"].filter(Boolean);
  return [...(standard.length ? [...standard, ""] : []), ...packages, "", program].join("\n");
}
