// What the key may use at this port: which indexes there are, and which screens can be shown.

import { get, health } from "./api.js";

const ROLES = { overview: "admin", generations: "admin", try: "read", map: "read", catalog: "read" };

/** The answer of a call; or the status of HTTP, if the key may not make it or the port does not have it. */
async function settled(call) {
  try {
    return { answer: await call };
  } catch (error) {
    if (error.http === 403 || error.http === 404) return { refused: error.http };
    throw error;
  }
}

/** An alias looks like the first of its indexes: that is the one that searches without a model go to. */
function described({ indexes = [], aliases = [] }) {
  const byName = new Map(indexes.map((index) => [index.name, index]));
  return [...indexes, ...aliases.map(({ alias, indexes: [first] }) => ({ ...byName.get(first), name: alias }))];
}

/**
 * Asks what there is. The two lists are of different roles, and with admin_listen of different ports.
 *
 * Fails if the server cannot be reached, or knows no such key.
 */
export async function begin(signal) {
  const [list, status] = await Promise.all([settled(get("/v1/indexes:list", signal)), settled(get("/v1/indexes", signal))]);
  const known = list.answer ?? status.answer;
  const indexes = known ? described(known) : [...(await health(signal)).keys()].map((name) => ({ name }));
  const isOffered = {
    overview: Boolean(status.answer), generations: Boolean(status.answer),
    // A key that may only take down has nothing else, and nothing tells its roles.
    try: Boolean(list.answer), map: Boolean(list.answer), catalog: list.refused !== 404,
  };
  return {
    indexes,
    mayRead: Boolean(list.answer),
    screens: Object.keys(ROLES).filter((name) => isOffered[name]),
    /** Why a screen is not offered. */
    missing: (name) => ((ROLES[name] === "admin" ? status : list).refused === 404
      ? "This screen is at another address of this server: see the settings listen and admin_listen."
      : `This screen needs a key with the role ${ROLES[name]}.`),
  };
}
