// Calls the JSON interface of the server. A key stays in this tab.

import { ofTab } from "./storage.js";

const KEY = "shortlist-key";

export const key = { get: () => ofTab.get(KEY), set: (text) => ofTab.set(KEY, text) };

/** Why a call failed: the status of HTTP, a code of gRPC, a message, and the fields that it is about. */
class Failure extends Error {
  constructor(http, code, message, fields = []) {
    super(message);
    this.http = http;
    this.code = code;
    this.fields = fields;
  }

  /** Whether the server did not answer at all. */
  get isAway() {
    return this.http === 0;
  }
}

async function ask(path, options) {
  const headers = { ...options.headers };
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  try {
    return await fetch(path, { ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Failure(0, "UNAVAILABLE", "The server cannot be reached.");
  }
}

async function send(path, options) {
  const response = await ask(path, options);
  if (response.ok) return response.json();
  const { error = {} } = await response.json().catch(() => ({}));
  const fields = (error.details ?? []).flatMap((detail) => detail.fieldViolations ?? []);
  const message = error.message ?? `The server answered ${response.status}.`;
  throw new Failure(response.status, error.status ?? "", message, fields);
}

/** A signal ends a call early, with an error that is no Failure. */
export const get = (path, signal) => send(path, { signal });
export const post = (path, body, signal) =>
  send(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal });

/** The state of each index in a few words, by name. Only the role admin gets names; a server that does not serve answers, too. */
export async function health(signal) {
  const lines = (await (await ask("/healthz", { signal })).text()).split("\n");
  return new Map(lines.filter((line) => line.includes(": ")).map((line) => {
    const end = line.indexOf(": ");
    return [line.slice(0, end), line.slice(end + 2)];
  }));
}

/** The path of an index. */
export const pathOf = (index) => `/v1/indexes/${encodeURIComponent(index.name)}`;

/** Gives each of several calls a signal that aborts when the next one begins, or when the screen is left. */
export function latest(signal) {
  let current = new AbortController();
  return () => {
    current.abort();
    current = new AbortController();
    return AbortSignal.any([signal, current.signal]);
  };
}
