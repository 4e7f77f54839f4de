// Dialogs: a question before something is changed, and the key. The focus returns to where it was.

import { el } from "./dom.js";

/** Opens a dialog. Resolves to the value of the button that closed it; to "" after Escape, or if the signal aborts. */
function opened(title, content, buttons, signal) {
  return new Promise((resolve) => {
    const dialog = el("dialog", { "aria-labelledby": "dialog-title", "aria-describedby": "dialog-text" },
      el("form", { method: "dialog" }, el("h2", { id: "dialog-title" }, title), content, el("div", { class: "row" }, buttons)));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
    signal?.addEventListener("abort", () => dialog.close(""));
    document.body.append(dialog);
    dialog.showModal();
  });
}

/**
 * Asks before something is changed. Resolves to whether it is to be done. `text`: paragraphs; `isSafe`: it can be undone
 * without harm. The question ends with its screen.
 */
export async function confirmed(signal, { title, text, action, isSafe = false }) {
  const said = el("div", { id: "dialog-text" }, [text].flat().map((paragraph) => el("p", {}, paragraph)));
  const chosen = await opened(title, said, [
    el("button", { value: "yes", class: isSafe ? "primary" : "danger" }, action),
    el("button", { value: "no", autofocus: !isSafe }, "Cancel"),
  ], signal);
  return chosen === "yes" && !signal.aborted;
}

/** Asks for a key. Resolves to undefined if it is to stay as it is. */
export async function askKey(before) {
  const input = el("input", { type: "password", autocomplete: "off", autofocus: true });
  input.value = before;
  const chosen = await opened("Key", [
    el("p", { id: "dialog-text" }, "A key or token of the server. It stays in this tab until it is closed."),
    el("label", {}, "Key or token", input),
  ], [el("button", { value: "set", class: "primary" }, "Use it"), el("button", { value: "no" }, "Cancel")]);
  return chosen === "set" ? input.value.trim() : undefined;
}
