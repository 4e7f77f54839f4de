// Chooses the screen by the address, and keeps the settings of the header.

import { get, key } from "./api.js";
import { announce, el, fill, problem } from "./dom.js";
import { show as overview } from "./overview.js";
import { show as generations } from "./generations.js";
import { show as tryIt } from "./try.js";
import { show as map } from "./map.js";
import { show as catalogue } from "./catalogue.js";

const SCREENS = { overview, generations, try: tryIt, map, catalogue };
const screen = document.getElementById("screen");
const choice = document.getElementById("index");
/** Ends the work of the screen that is shown. */
let leave = new AbortController();

function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  localStorage.setItem("shortlist-theme", name);
}

async function indexes() {
  const status = await get("/v1/indexes");
  const names = [...(status.indexes ?? []).map((index) => index.name), ...(status.aliases ?? []).map((alias) => alias.alias)];
  const chosen = names.includes(choice.value) ? choice.value : names[0];
  fill(choice, names.map((name) => el("option", { value: name, selected: name === chosen }, name)));
  choice.value = chosen ?? "";
}

async function show() {
  leave.abort();
  leave = new AbortController();
  const name = location.hash.slice(2).split("?")[0] || "overview";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const root = el("div");
  fill(screen, root);
  try {
    await indexes();
  } catch (error) {
    fill(root, el("h1", {}, "Shortlist"), problem(error));
    return;
  }
  const view = SCREENS[name] ?? overview;
  document.title = `${document.querySelector("nav a[aria-current]")?.textContent ?? "Overview"} · Shortlist`;
  try {
    await view(root, choice.value, leave.signal);
  } catch (error) {
    root.append(problem(error));
  }
}

function enterKey() {
  const input = el("input", { type: "password", autocomplete: "off", id: "key-text" });
  input.value = key.get();
  const dialog = el("dialog", { "aria-labelledby": "key-title" },
    el("form", { method: "dialog" },
      el("h2", { id: "key-title" }, "Key"),
      el("p", {}, "A key or token of the server. It stays in this tab until it is closed."),
      el("label", {}, "Key or token", input),
      el("div", { class: "row" },
        el("button", { value: "set", class: "primary" }, "Use it"),
        el("button", { value: "no" }, "Cancel"))));
  dialog.addEventListener("close", () => {
    if (dialog.returnValue === "set") {
      key.set(input.value.trim());
      announce("The key is in use.");
      show();
    }
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
}

const themes = document.getElementById("theme");
themes.value = localStorage.getItem("shortlist-theme") ?? "";
theme(themes.value);
themes.addEventListener("change", () => theme(themes.value));
choice.addEventListener("change", show);
document.getElementById("key").addEventListener("click", enterKey);
window.addEventListener("hashchange", () => {
  show();
  screen.focus();
});
show();
