/** What is asked for: the form, the page's address, which says the same, and the token, which stays in this tab. */

import { Problem } from "./api.js";
import { storedFor, widened, widthFor } from "./rows.js";
import { RANGES, RESOLUTIONS, parseTime, time } from "./text.js";

const SHARED = ["org", "range", "resolution", "since", "until"]; // what the page's address may hold, and the filters
const FILTERS = ["reason", "project", "category"];
const MOST_BUCKETS = 10000;
const DAY = 86400;
const $ = (id) => document.getElementById(id);
const form = $("form");

/** The form as it is now: {org, range, resolution, since, until, token}, all text, and {filters}. */
export function filled() {
  const asked = { ...Object.fromEntries(new FormData(form)), token: $("token").value.trim(), filters: { ...filters } };
  return { ...asked, org: asked.org.trim() };
}
let filters = {};

/** Keep only the part of one reason, project or category; the same once more takes it away. */
export function toggleFilter(name, value) {
  filters = filters[name] === value ? {} : { [name]: value };
}

/** Look at all of it again. */
export function dropFilters() {
  filters = {};
}

/** The window and the buckets of what was asked, as it is now: many who look ask for the same. Raises Problem. */
export function view(asked, now = Date.now() / 1000) {
  const { org, range, resolution, filters } = asked;
  if (!org) throw new Problem("Which organization?", "Type its slug or its id.", { field: "org" });
  if (org.startsWith("ost_")) {
    throw new Problem("This is a token", "It belongs into the field beside; here goes the slug.", { field: "org" });
  }
  const made = { org, range, resolution, filters };
  if (range !== "custom") {
    const { stored, width } = widths(RANGES[range], asked);
    const [, until] = widened(now, now, width);
    return { ...made, since: until + 1 - Math.max(RANGES[range], width), until, stored, width };
  }
  const [begin, end] = [parseTime(asked.since), parseTime(asked.until) - 1];
  const field = { field: Number.isNaN(end) && !Number.isNaN(begin) ? "until" : "since" };
  if (Number.isNaN(begin + end)) {
    throw new Problem("Which range?", "Times are written as 2026-11-27 15:00, in UTC.", field);
  }
  if (!(begin <= end)) throw new Problem("Which range?", "It must begin before it ends.", field);
  return { ...made, ...buckets(begin, end, asked) };
}

/** A window of whole buckets around another: {since, until, stored, width}. */
export function buckets(begin, end, asked) {
  const found = widths(end - begin + 1, asked);
  const [since, until] = widened(begin, end, found.width);
  return { since, until, ...found };
}

/** The widths of the buckets that are read and that are shown. */
function widths(seconds, { resolution, filters }) {
  const filtered = Object.keys(filters).length > 0; // then buckets of any width can be had, from a minute to a day
  const least = resolution === "auto" ? (filtered ? 60 : storedFor(seconds)) : RESOLUTIONS[resolution];
  const width = widthFor(seconds, Math.max(least, filtered ? 60 : 10));
  return { stored: filtered ? Math.min(width, DAY) : least, width };
}

/** Whether a part of a view can be had in finer buckets than the view has. */
export const isFiner = (view, seconds) =>
  view.resolution === "auto" && (Object.keys(view.filters).length ? view.stored > 60 : storedFor(seconds) < view.stored);

/** Put what was asked into the address; `part` is a window [from, to) that is asked for instead. */
export function link(asked, part) {
  const all = part ? { ...asked, range: "custom", resolution: "auto", since: iso(part[0]), until: iso(part[1]) } : asked;
  const shared = SHARED.slice(0, all.range === "custom" ? 5 : 3).map((name) => [name, all[name]]);
  return `#${new URLSearchParams([...shared, ...Object.entries(asked.filters)])}`;
}
const iso = (seconds) => time(seconds, true).replace(" ", "T");

/** Keep what was asked: all in the address but the token. */
export function keep(asked) {
  sessionStorage.setItem("token", asked.token);
  if (!asked.org.startsWith("ost_")) history.replaceState(null, "", link(asked));
}

/** Fill the form from the address; whether it names an organization. A token is taken out of the address. */
export function restore(org) {
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.has("token")) {
    $("token").value = given.get("token");
    sessionStorage.setItem("token", given.get("token"));
    given.delete("token");
    history.replaceState(null, "", `#${given}`);
  }
  for (const name of SHARED) if (given.has(name)) form.elements[name].value = given.get(name);
  for (const field of [$("since"), $("until")]) field.value = field.value.replace(/(?<=\d)T(?=\d)/, " ");
  filters = Object.fromEntries(FILTERS.filter((name) => given.has(name)).map((name) => [name, given.get(name)]));
  form.elements.org.value ||= org ?? "";
  $("token").value ||= sessionStorage.getItem("token") ?? "";
  offer();
  return given.has("org") || Boolean(form.elements.org.value && $("token").value);
}

/** Offer only what has an answer. */
export function offer() {
  const { range } = filled();
  $("custom").hidden = range !== "custom";
  for (const choice of form.resolution) {
    choice.disabled = RANGES[range] / RESOLUTIONS[choice.value] > MOST_BUCKETS;
    if (choice.disabled && choice.checked) form.resolution.value = "auto";
  }
}

/** Begin a range of one's own with the one that is seen. */
export function fillCustom(from, to) {
  [$("since").value, $("until").value] = [time(from, true), time(to, true)];
}

/** A token that works is put away; it comes back to be changed, and where it is at fault. */
export function showToken(shown) {
  $("signed-in").hidden = shown || !$("token").value;
  $("token").closest(".field").hidden = !$("signed-in").hidden;
}
