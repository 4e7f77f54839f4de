// Builds elements. Text is always text: nothing of the server becomes markup.

const isShown = (child) => child !== null && child !== undefined && child !== false;

/** Makes an element with properties and children. A child that is null or false is left out. */
export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (!isShown(value)) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter(isShown));
  return element;
}

/** Puts children in place of those that an element has. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter(isShown));
}

/** A button. */
export const button = (text, onclick, properties = {}) => el("button", { type: "button", onclick, ...properties }, text);

/** A definition list of pairs; those without a value are left out. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => isShown(value) && value !== "");
  return el("dl", {}, shown.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/** A table. Cells that are numbers are aligned to the end. The first cell of a row is its head if `hasRowHeads`. */
export function table(caption, heads, rows, hasRowHeads = false) {
  const cell = (value, at) => {
    const content = value instanceof Node ? value : String(value ?? "");
    if (hasRowHeads && at === 0) return el("th", { scope: "row" }, content);
    return el("td", { class: typeof value === "number" ? "n" : undefined }, content);
  };
  // Focusable, to be scrolled by keyboard. A group and not a region: regions are landmarks, whose names must differ.
  return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption },
    el("table", {},
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell))))));
}

/** A field with a label. */
export function field(label, control, properties = {}) {
  return el("label", properties, label, control);
}

/** What went wrong, for the reader. `again`: what to do again if the server could not be reached. */
export function problem(error, again) {
  const hint = error.code === "PERMISSION_DENIED" || error.code === "UNAUTHENTICATED"
    ? " Use the Key button to enter a key with the right role." : "";
  const said = el("p", { class: "note bad", role: "alert" }, `${error.message}${hint && !error.message.endsWith(".") ? "." : ""}${hint}`);
  const retry = () => {
    // The button goes away, and must not take the focus with it.
    document.getElementById("screen").focus();
    again();
  };
  return error.isAway && again ? el("div", {}, said, button("Try again", retry)) : said;
}

/** Says something to screen readers. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

/** Focuses an element that is no control, such as a heading, if the focus would be lost otherwise. */
export function focusOn(element) {
  element.tabIndex = -1;
  element.focus();
}
