/** The page: reads what is asked for, and shows it. */

import { read } from "./api.js";
import { renderCards, write } from "./cards.js";
import { draw, visibleRange, zoom } from "./chart.js";
import { buckets, dropFilters, fillCustom, filled, isFiner, keep, link, offer, restore, showToken, toggleFilter, view } from "./form.js";
import { known, remember, remembered } from "./known.js";
import { isWhole, merged, sums, widthFor, within } from "./rows.js";
import * as taking from "./taking.js";
import { announce, complain, renderTrust } from "./telling.js";
import { number, time, widthName } from "./text.js";
import * as who from "./who.js";
import * as why from "./why.js";

const BEHIND_SECONDS = 30; // counting is usually a few seconds behind
const BEHIND_REFRESH_SECONDS = 5;
const EXPLAIN_SECONDS = 60; // it is a dozen questions, and changes slowly
const SETTLE_MS = 250; // after the last move of a zoom finer buckets are read
const $ = (id) => document.getElementById(id);
const form = $("form");
const now = () => Date.now() / 1000;

let asked; // the form as it was when it was last sent: what is being typed is not asked for yet
let result; // the last answer of api.read
let before; // the same of the period before, or undefined
let closer; // the same of the part that is zoomed into, in finer buckets, or undefined
let explained = {}; // of which window, and when, it was last read what it is made of
let reading; // the AbortController of the reads under way
let timer; // of the next read
let settling; // of the read of finer buckets

/** Ask for what the form says. */
function submit() {
  if (asked && asked.org !== filled().org) dropFilters(); // projects and reasons are its own
  asked = filled();
  keep(asked);
  show();
}

/** Read and show; `quietly` when nobody pressed anything, so that nothing is announced or focused. */
async function show(quietly = false) {
  clearTimeout(timer);
  reading?.abort();
  const { signal } = (reading = new AbortController());
  document.body.ariaBusy = "true";
  $("welcome").hidden = true;
  try {
    if (result && result.view.org !== asked.org) clear();
    const wanted = view(asked, now());
    const found = { ...(await read(wanted, asked.token, signal)), readAt: now() };
    if (JSON.stringify(result?.view.filters) !== JSON.stringify(wanted.filters) || !quietly) before = closer = undefined;
    result = found;
    remember(asked.org);
    complain(null, { quietly });
    showToken(false);
    render();
    if (!quietly) announce($("totals"));
    scheduleNext();
    await Promise.all([compare(signal), explain(signal), lookCloser(signal), list(signal)]);
  } catch (error) {
    if (signal.aborted) return;
    complain(error, { quietly, readAt: result?.readAt });
    if (error.retrySeconds) next(error.retrySeconds);
  }
  document.body.ariaBusy = "false";
}

/** Counts of a window that may still grow are read again: soon while counting is behind. */
function scheduleNext() {
  const { completeUntil, view } = result;
  const open = completeUntil !== null && completeUntil <= view.until;
  const isBehind = open && Math.min(now(), view.until) - completeUntil > BEHIND_SECONDS;
  if (!$("live").checked || (view.range === "custom" && !isBehind)) return;
  next(isBehind ? BEHIND_REFRESH_SECONDS : Math.min(60, result.view.width));
}

/** Read again after some seconds, or later, when somebody looks. */
function next(seconds) {
  const again = () => show(true);
  const hidden = () => document.addEventListener("visibilitychange", again, { once: true });
  timer = setTimeout(() => (document.hidden ? hidden() : again()), seconds * 1000);
}

/** Read the period before, where it is wanted. */
async function compare(signal) {
  if (!$("compared").checked) before = undefined;
  else {
    const length = result.view.until - result.view.since + 1;
    const earlier = { ...result.view, since: result.view.since - length, until: result.view.until - length };
    if (before && JSON.stringify(before.view) === JSON.stringify(earlier)) return;
    const found = earlier.since < 0 ? undefined : await read(earlier, asked.token, signal);
    // What has been deleted would read as none.
    before = found && found.retainedSince <= earlier.since ? { ...found, length } : undefined;
  }
  render();
}

/** Read what the window is made of. */
async function explain(signal) {
  const key = JSON.stringify([result.view, asked.token]);
  if (explained.key === key && now() - explained.at < EXPLAIN_SECONDS) return;
  try {
    const found = await why.read(result.view, asked.token, signal);
    explained = { key, at: now() };
    why.render($("why"), found, result.view.filters, choose);
    write($("why-problem"), "");
  } catch (error) {
    if (signal.aborted) throw error;
    write($("why-problem"), `${error.message}. ${error.help ?? ""}`);
  }
}

/** Offer the organizations of the token; what they received is read once somebody opens the list. */
async function list(signal) {
  const listed = await known(asked.token, signal);
  $("who").hidden = listed.length < 2;
  if ($("who").hidden || !$("who").open) return;
  const table = await who.read(result.view, listed, asked.token, signal);
  const order = $("who").querySelector("[aria-pressed=true]").value;
  who.render($("who"), table, order, (slug) => {
    form.elements.org.value = slug;
    submit();
  });
}

/** Look at one reason, project or category, or at all again. */
function choose(list, value) {
  toggleFilter(list, value);
  submit();
}

/** Read the part that is zoomed into in finer buckets, where there are any. */
async function lookCloser(signal) {
  const part = seen();
  if (!part || !isFiner(result.view, part[1] - part[0])) closer = undefined;
  else {
    const finer = buckets(part[0], part[1] - 1, result.view);
    if (finer.stored >= result.view.stored) closer = undefined;
    else closer = await read({ ...result.view, ...finer }, asked.token, signal);
  }
  render();
}

/** The window [from, to) that the chart shows; undefined when it is all of it. */
const seen = () => ($("chart").layout && !$("chart").hidden ? visibleRange($("chart")) : undefined);

function clear() {
  result = before = closer = undefined;
  $("result").hidden = $("complete").hidden = true;
}

/** What is to be seen now: rows in buckets that suit the part of the window that the chart shows. */
function shown() {
  const part = seen();
  const from = closer ?? result;
  const span = part ?? [result.view.since, result.view.until + 1];
  const width = Math.max(from.width, part ? widthFor(span[1] - span[0], from.width) : result.view.width);
  const rows = within(from.rows, from.width, span);
  return { span, rows, width, buckets: merged(rows, width), stored: from.width };
}

/** Rows of the period before in a part of it, moved into the present one. */
function beforeIn(span) {
  if (!before) return undefined;
  const moved = before.rows.map((row) => ({ ...row, start: row.start + before.length }));
  return within(moved, before.width, span);
}

function render() {
  const { span, rows, width, buckets, stored } = shown();
  const ends = span.map((end, i) => (i ? Math.ceil(end / width) : Math.floor(end / width)) * width);
  $("result").hidden = false;
  const whole = rows.filter(isWhole).map(({ start }) => start);
  const wholeBefore = before && before.width === stored && beforeIn([whole[0] ?? 0, (whole.at(-1) ?? -stored) + stored]);
  renderCards($("totals"), rows, stored, wholeBefore);
  const count = `${number(buckets.length)} ${buckets.length === 1 ? "bucket" : "buckets"} of ${widthName(width)}`;
  write($("window"), `${time(ends[0])} to ${time(ends[1])} UTC, ${count}. Rates are those of whole buckets.`);
  renderFilter();
  renderTrust(result, now());
  renderChart(buckets, width, sums(result.rows).received);
  taking.renderTable(...tabled(), result.view.org);
  taking.renderApi(result);
}

function renderFilter() {
  const [[name, value] = []] = Object.entries(result.view.filters);
  $("filter").hidden = !name;
  if (name) write($("filter").querySelector("span"), `Only ${name} ${value}`);
}

async function renderChart(rows, width, total) {
  const deleted = result.rows.some((row) => row.state === "deleted");
  $("empty").hidden = total > 0n;
  $("chart").hidden = $("legend").hidden = $("zoom").hidden = total === 0n;
  write(
    $("empty"),
    "No events in this range. " +
      (deleted ? `What was before ${time(result.retainedSince)} UTC has been deleted. ` : "") +
      "Try a longer one; if it should not be empty, see at the top how far everything is counted.",
  );
  if (total === 0n) return;
  const parts = new Set([...$("legend").querySelectorAll("[name=series]:checked")].map((box) => box.value));
  const earlier = before && merged(beforeIn([result.view.since, result.view.until + 1]), Math.max(width, before.width));
  const line = earlier?.length && width >= before.width ? earlier : undefined;
  try {
    await draw($("chart"), result, { rows, width, before: line }, parts, moved);
    renderZoom();
  } catch (error) {
    $("empty").hidden = false;
    write($("empty"), `The chart cannot be drawn (${error.message}); the numbers are in the table below.`);
  }
}

/** The chart shows another part now. */
function moved() {
  renderZoom();
  clearTimeout(settling);
  settling = setTimeout(() => result && lookCloser(reading.signal).catch(() => render()), SETTLE_MS);
}

function renderZoom() {
  const all = !visibleRange($("chart"));
  for (const button of $("zoom").querySelectorAll("button")) {
    button.ariaDisabled = String(all && button.value !== "in"); // a button that is disabled loses the focus
  }
}

/** The rows of the table: in the resolution that was chosen, otherwise as in the chart. */
function tabled() {
  const { rows, buckets, width, stored } = shown();
  return result.view.resolution === "auto" ? [buckets, width] : [rows, stored];
}

function start() {
  if (restore(remembered()[0])) submit();
  else $("welcome").hidden = false;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
form.addEventListener("change", ({ target }) => {
  if (target.type !== "radio") return;
  offer();
  if (target.value === "custom" && result) fillCustom(...(seen() ?? [result.view.since, result.view.until + 1]));
  else if (target.value !== "custom" && asked) submit();
});
$("problem").querySelector("button").addEventListener("click", () => show());
$("signed-in").querySelector("button").addEventListener("click", () => (showToken(true), $("token").focus()));
$("live").addEventListener("change", () => ($("live").checked && asked ? show(true) : clearTimeout(timer)));
$("compared").addEventListener("change", () => compare(reading.signal).catch(() => render()));
$("who").addEventListener("toggle", () => list(reading.signal).catch(() => {}));
$("who").querySelector("thead").addEventListener("click", ({ target: { value } }) => {
  if (!value) return;
  for (const button of $("who").querySelectorAll("thead button")) button.ariaPressed = String(button.value === value);
  list(reading.signal).catch(() => {});
});
$("legend").addEventListener("change", ({ target }) => target.name === "series" && render());
$("filter").querySelector("button").addEventListener("click", () => choose(...Object.entries(asked.filters)[0]));
$("stat").addEventListener("change", () => taking.renderApi(result));
$("numbers").addEventListener("toggle", () => taking.renderTable(...tabled(), result.view.org));
$("copy").addEventListener("click", () => taking.copy($("copy"), $("curl").textContent, $("curl")));
$("link").addEventListener("click", () => taking.copy($("link"), new URL(link(asked, seen()), location.href).href));
$("zoom").addEventListener("click", ({ target: { value } }) => value && zoom($("chart"), value));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => result && render());
addEventListener("hashchange", start);
start();
