// Numbers, times and values as text.

const whole = new Intl.NumberFormat("en");

/** A count, which may be the text of a 64-bit integer. */
export const count = (value) => whole.format(BigInt(value ?? 0));

/** A size in bytes, which may be text. */
export function bytes(value) {
  let size = Number(value ?? 0);
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (size < 1024) return `${size < 10 && unit !== "B" ? size.toFixed(1) : Math.round(size)} ${unit}`;
    size /= 1024;
  }
  return `${size.toFixed(1)} TiB`;
}

/** Seconds of a duration such as "0.0042s". */
export const seconds = (duration) => (duration ? Number.parseFloat(duration) : undefined);

/** A duration in words. */
export function time(duration) {
  const value = seconds(duration);
  if (value === undefined) return "";
  // Three digits of a value just below a second would be those of 1000 ms.
  if (value < 0.9995) return `${Number((value * 1000).toPrecision(3))} ms`;
  if (value < 119.95) return `${value.toFixed(1)} s`;
  return value < 7170 ? `${Math.round(value / 60)} min` : `${(value / 3600).toFixed(1)} h`;
}

/** A point in time. */
export const date = (at) => (at ? new Date(at).toLocaleString() : "");

/** A share as a number with four digits. */
export const share = (value) => (value === undefined ? "" : Number(value).toFixed(4));

/** The name of an enum without its prefix. */
export const word = (name, prefix) => (name ?? "").replace(prefix, "").toLowerCase().replaceAll("_", " ");

/** The value of an attribute. */
export function value(attribute) {
  if (attribute.keywordList) return (attribute.keywordList.values ?? []).join(", ");
  const [kind, found] = Object.entries(attribute)[0] ?? ["", ""];
  return kind === "timestamp" ? date(found) : String(found);
}

/** The id of a video or candidate, which is text if the index has text ids. */
export const id = (video) => video.textId || video.videoId || "0";
