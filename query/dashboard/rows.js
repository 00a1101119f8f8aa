/** Rows of buckets and what is made of them: wider buckets, sums, the width that suits a chart. No page, no network. */

export const STORED = [10, 3600, 86400]; // the widths of the API's series, in seconds
export const MOST_BUCKETS = 10000; // in one answer of the API
const MOST_POINTS = 800; // more are thinner than what can be told apart
const DAY = 86400;
const WIDTHS = [10, 30, 60, 120, 300, 600, 900, 1800, 3600, 10800, 21600, 43200, DAY, 5 * DAY, 20 * DAY];
export const COUNTS = ["received", "accepted", "rejected", "blacklisted"];

/** The width to show so many seconds in: the finest from `least` on that has at most `most` buckets. */
export function widthFor(seconds, least, most = MOST_POINTS) {
  return WIDTHS.find((width) => width >= least && seconds / width <= most) ?? WIDTHS.at(-1);
}

/** The finest width in which the API answers for so many seconds, and for a little more: windows are widened. */
export function storedFor(seconds) {
  return STORED.find((width) => seconds / width <= MOST_BUCKETS * 0.98) ?? DAY;
}

/** The smallest window of whole buckets around [since, until]. */
export function widened(since, until, width) {
  return [Math.floor(since / width) * width, Math.floor(until / width) * width + width - 1];
}

/** The rows in buckets of a wider width; a bucket is as far counted as the least of its parts. */
export function merged(rows, width) {
  const found = [];
  for (const row of rows) {
    const start = Math.floor(row.start / width) * width;
    const last = found.at(-1);
    if (last?.start !== start) found.push({ ...row, start });
    else {
      for (const name of COUNTS) last[name] += row[name];
      if (last.state !== row.state) last.state = STATES.find((state) => [last.state, row.state].includes(state));
    }
  }
  return found;
}
const STATES = ["deleted", "open", "unknown", "complete"]; // the worst first

/** The rows of which any part is in [from, to). */
export function within(rows, width, [from, to]) {
  return rows.filter(({ start }) => start + width > from && start < to);
}

/** Whether a bucket holds all that it will. */
export const isWhole = ({ state }) => state === "complete" || state === "unknown";

/** What the rows add up to, by count. */
export function sums(rows) {
  return Object.fromEntries(COUNTS.map((name) => [name, rows.reduce((sum, row) => sum + row[name], 0n)]));
}

/** The rows as CSV; times are ISO in UTC. */
export function csv(rows) {
  const lines = rows.map((row) => [`${new Date(row.start * 1000).toISOString().slice(0, 19)}Z`, ...COUNTS.map((name) => row[name]), row.state]);
  return [["start", ...COUNTS, "state"], ...lines].map((line) => `${line.join(",")}\r\n`).join("");
}
