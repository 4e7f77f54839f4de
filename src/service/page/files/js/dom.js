// Builds elements. Text is always text: nothing of the server becomes markup.

/** Makes an element with properties and children. A child that is null or false is left out. */
export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Puts children in place of those that an element has. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

/** A definition list of pairs; those without a value are left out. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return el("dl", {}, shown.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/** A table. Cells that are numbers are aligned to the end. */
export function table(caption, heads, rows) {
  const cell = (value) => el("td", { class: typeof value === "number" ? "n" : undefined }, value instanceof Node ? value : String(value ?? ""));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {},
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell))))));
}

/** A field with a label. */
export function field(label, control, properties = {}) {
  return el("label", properties, label, control);
}

/** What went wrong, for the reader. */
export function problem(error) {
  const role = error.code === "PERMISSION_DENIED" || error.code === "UNAUTHENTICATED"
    ? " Enter a key with the right role by the button Key." : "";
  return el("p", { class: "note bad", role: "alert" }, `${error.message}${role}`);
}

/** Says something to screen readers. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

/** Asks before something is changed. Resolves to whether it is to be done. */
export function confirmed(title, text, action, danger = true) {
  return new Promise((resolve) => {
    const dialog = el("dialog", { "aria-labelledby": "confirm-title" },
      el("form", { method: "dialog" },
        el("h2", { id: "confirm-title" }, title),
        el("p", {}, text),
        el("div", { class: "row" },
          el("button", { value: "yes", class: danger ? "danger" : "primary" }, action),
          el("button", { value: "no" }, "Cancel"))));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
