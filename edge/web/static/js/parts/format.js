/** Numbers, times and names as text. Unknown is "unknown", never 0 and never empty. */

const UNKNOWN = "unknown";
const numbers = new Map();

/** 1,234.5 with a fixed number of decimals. */
export function number(value, decimals = 0) {
  if (value === null || value === undefined || Number.isNaN(value)) return UNKNOWN;
  if (!numbers.has(decimals)) {
    numbers.set(decimals, new Intl.NumberFormat("en-GB", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }));
  }
  return numbers.get(decimals).format(value);
}

/** A number with its unit, "812.4 m"; a narrow gap keeps both on one line. */
export function quantity(value, unit, decimals = 0) {
  return isKnown(value) ? `${number(value, decimals)}\u00a0${unit}` : UNKNOWN;
}

export function isKnown(value) {
  return value !== null && value !== undefined && !Number.isNaN(value);
}

export const metres = (value, decimals = 1) => quantity(value, "m", decimals);
export const millimetres = (value) => quantity(value, "mm", 0);
export const milliseconds = (value) => quantity(value, "ms", 1);

/** A share of 0 to 1 as "98.7 %": never rounded up to 100 %, never down to 0 %. */
export function percent(share, decimals = 1) {
  if (!isKnown(share)) return UNKNOWN;
  const step = 10 ** -decimals;
  let value = share * 100;
  if (share < 1) value = Math.min(value, 100 - step);
  if (share > 0) value = Math.max(value, step);
  return `${number(value, decimals)}\u00a0%`;
}

/** Bytes as "214 MiB". */
export function bytes(value) {
  if (!isKnown(value)) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${number(value, unit && value < 10 ? 1 : 0)}\u00a0${units[unit]}`;
}

/** "pitted surface" for pitted_surface. */
export function className(name) {
  return name ? name.replaceAll("_", " ") : "unknown class";
}

/** "scratches", or what an unknown defect looks like: "unknown, like scratches". */
export function defectName({ class: name, candidates }) {
  const likely = name === "unknown" ? candidates?.[0] : null;
  return likely ? `unknown, like ${className(likely.class)}` : className(name);
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const withZone = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });
const zone = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short", hour: "2-digit" });

/** A stamp (UTC, ISO) or Date as local time, "14:46:11". */
export function time(stamp) {
  const date = asDate(stamp);
  return date ? clock.format(date) : UNKNOWN;
}

/** "22 Nov 2026, 14:46:11"; today: the time alone. */
export function dateTime(stamp) {
  const date = asDate(stamp);
  if (!date) return UNKNOWN;
  return day.format(date) === day.format(new Date()) ? clock.format(date) : `${day.format(date)}, ${clock.format(date)}`;
}

/** With date and zone, for a tooltip: "22 Nov 2026, 14:46:11 CET". */
export function fullTime(stamp) {
  const date = asDate(stamp);
  return date ? withZone.format(date) : UNKNOWN;
}

/** The zone of this browser, "CET". */
export function zoneName() {
  return zone.formatToParts(new Date()).find((part) => part.type === "timeZoneName")?.value ?? "local time";
}

/** Seconds as "0.2 s", "45 s", "3 min", "5 h", "2 days". */
export function duration(seconds) {
  if (!isKnown(seconds)) return UNKNOWN;
  if (seconds < 10) return `${number(Math.max(0, seconds), 1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** "1 camera", "2 cameras". */
export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

function asDate(stamp) {
  if (!isKnown(stamp)) return null;
  const date = stamp instanceof Date ? stamp : new Date(stamp);
  return Number.isNaN(date.getTime()) ? null : date;
}
