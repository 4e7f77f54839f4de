// Chooses the screen by the address, and keeps the settings of the header.

import { link, read } from "./address.js";
import { key } from "./api.js";
import { show as catalog } from "./catalog.js";
import { askKey } from "./dialog.js";
import { announce, el, fill, focusOn, problem } from "./dom.js";
import { forget as forgetForm } from "./form.js";
import { show as generations } from "./generations.js";
import { forget as forgetSearch } from "./last.js";
import { show as map } from "./map.js";
import { show as overview } from "./overview.js";
import { repeat } from "./repeat.js";
import { begin } from "./session.js";
import { forGood } from "./storage.js";
import { show as tryIt } from "./try.js";

const SCREENS = { overview, generations, try: tryIt, map, catalog };
const TITLES = { overview: "Overview", generations: "Generations", try: "Try it", map: "Map", catalog: "Catalog" };
/** Milliseconds until the server is asked again after it could not be reached. */
const PAUSE = 5000;

const THEME = "shortlist-theme";

const main = document.getElementById("screen");
const choice = document.getElementById("index");
/** What the key may use; undefined until it is known. */
let session;
/** Ends the work of the screen that is shown. */
let leave = new AbortController();
/** The values of each screen when it was shown last, so that its link leads back to them. */
const kept = new Map();

function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  forGood.set(THEME, name);
  document.dispatchEvent(new Event("themechange"));
}

/** The screen of the address. An unknown one is the first that is offered. */
function wanted() {
  const { name, values } = read();
  return { name: Object.hasOwn(SCREENS, name) ? name : session.screens[0] ?? "overview", values };
}

/** The index of the address, or the first one; undefined if it is not known. Without names of indexes, a person enters one. */
function chosenIndex(asked) {
  const { indexes } = session;
  if (!indexes.length) return { name: asked };
  return asked ? indexes.find((index) => index.name === asked) : indexes[0];
}

function navigation(current, index) {
  fill(document.getElementById("screens"), session.screens.map((name) => {
    const values = { ...kept.get(name), index: index?.name };
    return el("li", {}, el("a", { href: link(name, values), "aria-current": name === current ? "page" : undefined }, TITLES[name]));
  }));
  const isTyped = !session.indexes.length;
  const control = document.getElementById(isTyped ? "index-name" : "index");
  document.getElementById("index-choice").hidden = isTyped;
  document.getElementById("index-entry").hidden = !isTyped;
  fill(choice, session.indexes.map(({ name }) => el("option", { value: name }, name)));
  control.value = index?.name ?? "";
}

/** Shows the screen of the address in a new root. */
async function show() {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const root = el("div");
  fill(main, root);
  try {
    const now = session ?? await begin(signal);
    if (signal.aborted) return;
    session = now;
    await open(root, signal);
  } catch (error) {
    if (!signal.aborted) fail(root, error, signal);
  }
}

/** Says why a screen cannot be shown. If the server is away, the screen is shown once it answers. */
function fail(root, error, signal) {
  if (!root.querySelector("h1")) root.append(el("h1", {}, "Shortlist"));
  root.append(problem(error));
  if (!error.isAway) return;
  root.append(el("p", {}, "Retrying every 5 seconds."));
  repeat(signal, PAUSE, async () => {
    const now = await begin(signal).catch((again) => (again.isAway || signal.aborted ? undefined : false));
    if (now === undefined || signal.aborted) return;
    session = now || undefined;
    await show();
  });
}

async function open(root, signal) {
  const { name, values } = wanted();
  const asked = values.get("index") ?? "";
  const index = chosenIndex(asked);
  document.title = `${TITLES[name]} · Shortlist`;
  navigation(name, index);
  const refuse = (reason) => root.append(el("h1", {}, TITLES[name]), el("p", { class: "note bad", role: "alert" }, reason));
  if (!session.screens.includes(name)) return refuse(session.missing(name));
  if (!index) {
    return refuse(asked ? `There is no index ${asked}, or this key may not use it. Choose another one above.` : "There is no index.");
  }
  values.set("index", index.name);
  history.replaceState(null, "", link(name, Object.fromEntries(values)));
  return SCREENS[name](root, index, signal, session);
}

async function changeKey() {
  const entered = await askKey(key.get());
  if (entered === undefined) return;
  if (entered && !/^[\x21-\x7e]+$/.test(entered)) {
    leave.abort();
    fill(main, el("h1", {}, "Shortlist"), problem(new Error("This is not a key: keys have no spaces and only characters of ASCII.")));
    return;
  }
  key.set(entered);
  session = undefined;
  kept.clear();
  forgetSearch();
  forgetForm();
  await show();
  if (session) announce(entered ? "The key is in use." : "No key is in use.");
}

function chooseIndex(event) {
  const { name, values } = read();
  location.hash = link(name, { ...Object.fromEntries(values), index: event.target.value.trim() });
}

function remember(address) {
  const [name, query = ""] = new URL(address).hash.slice(2).split("?");
  kept.set(name, Object.fromEntries(new URLSearchParams(query)));
}

const themes = document.getElementById("theme");
themes.value = forGood.get(THEME);
theme(themes.value);
themes.addEventListener("change", () => theme(themes.value));
choice.addEventListener("change", chooseIndex);
document.getElementById("index-name").addEventListener("change", chooseIndex);
document.getElementById("key").addEventListener("click", changeKey);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  focusOn(main);
});
// A generation that serves may have other attributes.
document.addEventListener("indexchange", () => { session = undefined; });
window.addEventListener("hashchange", (event) => {
  if (!location.hash.startsWith("#/")) return;
  remember(event.oldURL);
  show();
  // A change of the index leaves the focus at its control.
  if (!document.activeElement.closest(".settings")) main.focus();
});
show();
