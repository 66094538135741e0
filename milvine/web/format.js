// Numbers and values as text.

const UNITS = ["B", "KB", "MB", "GB", "TB"];

export function bytes(count) {
  let size = count;
  let unit = 0;
  while (size >= 1000 && unit < UNITS.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit && size < 100 ? size.toFixed(1) : Math.round(size)} ${UNITS[unit]}`;
}

export function number(count) {
  return typeof count === "number" ? count.toLocaleString("en") : String(count ?? "–");
}

export function milliseconds(value) {
  return value < 10 ? `${value.toFixed(2)} ms` : `${number(Math.round(value))} ms`;
}

/** A time of the log, in the browser's zone: 2026-01-31 12:00:09 */
export function moment(text) {
  return new Date(text).toLocaleString("sv");
}

export function percent(share) {
  return `${(share * 100).toFixed(share < 0.1 ? 2 : 0)} %`;
}

/** A value of a row: vectors are shortened. */
export function cell(value) {
  if (value === null || value === undefined) return "null";
  if (Array.isArray(value) && value.length > 6 && value.every((one) => typeof one === "number")) {
    return `[${value.slice(0, 4).map((one) => +one.toFixed(4)).join(", ")}, … ${value.length}]`;
  }
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}

/** LoadStateLoaded -> Loaded */
export function state(name) {
  return { LoadStateLoaded: "Loaded", LoadStateLoading: "Loading", LoadStateNotLoad: "Not loaded" }[name] ?? name;
}
