/** Numbers and times as people read them; everything is in UTC, as the buckets are. */

export const SERIES = ["accepted", "rejected", "blacklisted"];
export const RANGES = { "1h": 3600, "24h": 86400, "7d": 604800, "30d": 2592000, "90d": 7776000 };
export const RESOLUTIONS = { "10s": 10, "1h": 3600, "1d": 86400 };
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** All digits of a count (BigInt) or number: 1,234,567. */
export const number = (value) => value.toLocaleString("en");

/** A bucket's width: 10 seconds, 1 hour. */
export function widthName(seconds) {
  const [unit, length] = UNITS.find(([, length]) => seconds % length === 0);
  return `${seconds / length} ${unit}${seconds === length ? "" : "s"}`;
}

/** What a bucket's count is: per hour, per 10 s. */
export function per(seconds) {
  const [unit, length] = UNITS.find(([, length]) => seconds % length === 0);
  if (seconds === length) return `per ${unit}`;
  return `per ${seconds / length} ${{ second: "s", minute: "min", hour: "h", day: "d" }[unit]}`;
}

/** 2020-03-21 21:00, with seconds where there are any, or always. */
export function time(seconds, always = false) {
  const text = new Date(seconds * 1000).toISOString();
  return text.slice(0, 10) + " " + text.slice(11, always || seconds % 60 ? 19 : 16);
}

/** Epoch seconds of such a text, also with a T or a Z; NaN for another. */
export function parseTime(text) {
  const match = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?))?Z?$/.exec(text.trim());
  return match ? Date.parse(`${match[1]}T${match[2] ?? "00:00"}Z`) / 1000 : NaN;
}

/** A count over some seconds as a rate in the unit that reads well; the third digit is enough. */
export function rate(count, seconds) {
  if (!seconds) return "no whole bucket yet";
  const perSecond = Number(count) / seconds;
  const [name, factor] = [["s", 1], ["min", 60], ["h", 3600]].find(([, factor]) => perSecond * factor >= 1) ?? ["d", 86400];
  const value = perSecond * factor;
  const digits = value < 100 ? { maximumSignificantDigits: 3 } : { maximumFractionDigits: 0 };
  return `${value.toLocaleString("en", digits)}/${value ? name : "s"}`;
}

/** A part of a whole, both BigInt, in per cent. What is not all or nothing never reads as 100 or 0. */
export function share(part, whole) {
  const hundredths = Number((part * 10000n) / (whole || 1n));
  if (hundredths === 0 && part) return "< 0.01 %";
  return `${(hundredths / 100).toFixed(hundredths % 100 ? 2 : 0)} %`;
}

/** How long ago, roughly. */
export function ago(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 129600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}
