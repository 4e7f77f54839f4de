// Calls the JSON interface of the server. A key stays in this tab.

const KEY = "shortlist-key";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY)),
};

/** Why a call failed: a code of gRPC, a message, and the fields that it is about. */
export class Failure extends Error {
  constructor(code, message, fields = []) {
    super(message);
    this.code = code;
    this.fields = fields;
  }
}

async function send(path, options) {
  const headers = { ...options.headers };
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Failure("UNAVAILABLE", "The server cannot be reached.");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const status = body.error ?? body;
  const details = status.details ?? [];
  const fields = details.flatMap((detail) => detail.fieldViolations ?? []);
  throw new Failure(status.status ?? status.code ?? String(response.status), status.message ?? `The server answered ${response.status}.`, fields);
}

export const get = async (path) => (await send(path, {})).json();
export const text = async (path) => (await send(path, {})).text();
export const post = async (path, body) =>
  (await send(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) })).json();

/** The path of an index. */
export const of = (index) => `/v1/indexes/${encodeURIComponent(index)}`;
