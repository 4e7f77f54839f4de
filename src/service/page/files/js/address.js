// What is shown is in the address after the #, such as #/try?index=videos&k=20, so that reloads, Back and links show the same.

/** The name of the screen, and its values as URLSearchParams. */
export function read() {
  const [name, query = ""] = location.hash.startsWith("#/") ? location.hash.slice(2).split("?") : [""];
  return { name, values: new URLSearchParams(query) };
}

/** The address of a screen with values. Those that are undefined or empty are left out. */
export function link(name, values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== "");
  const query = new URLSearchParams(given).toString();
  return `#/${name}${query ? `?${query}` : ""}`;
}

/** Whether the address has these values, but for the index. */
export function has(values) {
  const { name, values: now } = read();
  now.delete("index");
  return link(name, { ...values, index: "" }) === link(name, Object.fromEntries(now));
}

/** Keeps other values of the same screen in the address. `isStep`: Back leads to those before. */
export function keep(values, isStep = false) {
  const { name, values: before } = read();
  const address = link(name, { index: before.get("index") ?? "", ...values });
  if (address === location.hash) return;
  if (isStep) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}
