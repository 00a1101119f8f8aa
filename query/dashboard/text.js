/** Numbers and times as people read them; everything is in UTC, as the buckets are. */

export const SERIES = ["accepted", "rejected", "blacklisted"];
export const RANGES = { "1h": 3600, "24h": 86400, "7d": 604800, "30d": 2592000, "90d": 7776000 };
export const WIDTHS = { "10s": 10, "1h": 3600, "1d": 86400 };
const NAMES = { 10: "10 seconds", 3600: "1 hour", 86400: "1 day" };

/** All digits of a count (BigInt) or number: 1,234,567. */
export const number = (value) => value.toLocaleString("en");

/** The name of a bucket's width. */
export const widthName = (seconds) => NAMES[seconds];

/** 2020-03-21 21:00, with seconds where there are any, or always. */
export function time(seconds, always = false) {
  const text = new Date(seconds * 1000).toISOString();
  return text.slice(0, 10) + " " + text.slice(11, always || seconds % 60 ? 19 : 16);
}

/** A count per second; the third digit is enough for a rate. */
export function rate(count, seconds) {
  if (!seconds) return "no whole bucket yet";
  const perSecond = Number(count) / seconds;
  const digits = perSecond < 100 ? { maximumSignificantDigits: 3 } : { maximumFractionDigits: 0 };
  return `${perSecond.toLocaleString("en", digits)}/s`;
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
