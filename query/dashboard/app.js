/** The page: what is asked for, what was answered, and everything that shows it. */

import { Problem, address, read } from "./api.js";
import { draw, visibleRange, zoom } from "./chart.js";
import { RANGES, SERIES, WIDTHS, ago, number, rate, share, time, widthName } from "./text.js";

const MOST_BUCKETS = 10000;
const SHARED = ["org", "range", "resolution", "since", "until"]; // what the page's address may hold
const STATES = { complete: "complete", open: "still counting", deleted: "deleted", unknown: "not known" };
const $ = (id) => document.getElementById(id);
const form = $("form");
const now = () => Date.now() / 1000;
const toField = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 19);
const fromField = (text) => Date.parse(`${text}Z`) / 1000;

let asked; // the form as it was when it was last sent: what is being typed is not asked for yet
let result; // the last answer of api.read
let reading; // the AbortController of the read under way
let timer; // of the next read

/** Ask for what the form says. The token stays in this tab; the rest is in the address, to be shared. */
function submit() {
  asked = { ...Object.fromEntries(new FormData(form)), token: $("token").value.trim() };
  asked.org = asked.org.trim();
  sessionStorage.setItem("token", asked.token);
  const shared = SHARED.slice(0, asked.range === "custom" ? 5 : 3).map((name) => [name, asked[name]]);
  if (!asked.org.startsWith("ost_")) history.replaceState(null, "", `#${new URLSearchParams(shared)}`);
  show();
}

/** The window asked for, as it is now. Its end is a multiple of 10 s, so that all who look ask the same. */
function view() {
  const { org, range, resolution } = asked;
  const until = range === "custom" ? fromField(asked.until) - 1 : Math.floor(now() / 10) * 10;
  const since = range === "custom" ? fromField(asked.since) : until - RANGES[range] + 1;
  if (!org) throw new Problem("Which organization?", "Type its slug or its id.", { field: "org" });
  if (org.startsWith("ost_")) {
    throw new Problem("This is a token", "It belongs into the field beside; here goes the slug.", { field: "org" });
  }
  if (!(since <= until)) throw new Problem("Which range?", "It must begin before it ends.", { field: "since" });
  return { org, range, resolution, since, until };
}

/** Read and show; `quietly` when nobody pressed anything, so that nothing is announced or focused. */
async function show(quietly = false) {
  clearTimeout(timer);
  reading?.abort();
  const own = (reading = new AbortController());
  document.body.ariaBusy = "true";
  $("welcome").hidden = true;
  try {
    if (result && result.view.org !== asked.org) clear();
    result = { ...(await read(view(), asked.token, own.signal)), readAt: now() };
    remember(asked.org);
    complain(null, quietly);
    render();
    if (!quietly) announce();
    if ($("live").checked && asked.range !== "custom") next(Math.min(60, result.width));
  } catch (error) {
    if (own.signal.aborted) return;
    complain(error, quietly);
    if (error.retrySeconds) next(error.retrySeconds);
  }
  document.body.ariaBusy = "false";
}

/** Read again after some seconds, or later, when somebody looks. */
function next(seconds) {
  const again = () => show(true);
  const hidden = () => document.addEventListener("visibilitychange", again, { once: true });
  timer = setTimeout(() => (document.hidden ? hidden() : again()), seconds * 1000);
}

function clear() {
  result = undefined;
  $("result").hidden = $("complete").hidden = true;
}

/** Show a problem, or that there is none any more. */
function complain(problem, quietly) {
  for (const id of ["org", "token", "since"]) $(id).ariaInvalid = String(problem?.field === id);
  $("problem").hidden = !problem;
  if (!problem) return;
  const { message, help = "", retrySeconds = 0, field = "" } = problem;
  if (field) clear();
  const retry = retrySeconds ? ` The next try is in ${number(retrySeconds)} s.` : "";
  const old = result ? ` The numbers below are from ${time(Math.round(result.readAt))} UTC.` : "";
  $("problem").querySelector("button").hidden = !retrySeconds;
  setText($("problem").querySelector("h2"), message);
  setText($("problem").querySelector("p"), help + retry + old);
  if (field && !quietly) $(field).focus();
}

/** A live region is read out whenever it is written, so nothing is written twice. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function render() {
  const { rows, width } = result;
  $("result").hidden = false;
  const total = Object.fromEntries(
    ["received", ...SERIES].map((name) => [name, rows.reduce((sum, row) => sum + row[name], 0n)]),
  );
  const whole = rows.filter((row) => row.state === "complete" || row.state === "unknown");
  for (const card of $("totals").children) {
    const name = card.dataset.series;
    const counted = whole.reduce((sum, row) => sum + row[name], 0n);
    const part = name === "received" ? "" : `${share(total[name], total.received)} · `;
    setText(card.children[1], number(total[name]));
    setText(card.children[2], part + rate(counted, whole.length * width));
  }
  const end = rows.at(-1).start + width;
  const buckets = `${number(rows.length)} ${rows.length === 1 ? "bucket" : "buckets"} of ${widthName(width)}`;
  setText($("window"), `${time(rows[0].start)} to ${time(end)} UTC, ${buckets}. Rates are those of whole buckets.`);
  renderTrust(end);
  renderChart(total.received);
  renderTable();
  renderApi();
}

function renderTrust(end) {
  const { completeUntil: until } = result;
  const behind = until !== null && until < end && now() - until > 300;
  $("complete").hidden = false;
  $("complete").className = until === null || behind ? "warning" : "";
  setText(
    $("complete"),
    until === null
      ? "It is not known how far these counts are complete"
      : `Counted up to ${time(until)} UTC, ${ago(now() - until)} ago`,
  );
}

async function renderChart(total) {
  const deleted = result.rows.some((row) => row.state === "deleted");
  $("empty").hidden = total > 0n;
  $("chart").hidden = $("legend").hidden = $("zoom").hidden = total === 0n;
  setText(
    $("empty"),
    "No events in this range. " +
      (deleted ? `What was before ${time(result.retainedSince)} UTC has been deleted. ` : "") +
      "Try a longer one; if it should not be empty, see at the top how far everything is counted.",
  );
  if (total === 0n) return;
  const shown = new Set([...$("legend").querySelectorAll(":checked")].map((box) => box.value));
  try {
    await draw($("chart"), result, shown, renderZoom);
    renderZoom();
  } catch (error) {
    $("empty").hidden = false;
    setText($("empty"), `The chart cannot be drawn (${error.message}); the numbers are in the table below.`);
  }
}

function renderZoom() {
  const all = !visibleRange($("chart"));
  for (const button of $("zoom").children) {
    if (button.value === "load") button.hidden = all;
    else button.ariaDisabled = String(all && button.value !== "in"); // a button that is disabled loses the focus
  }
}

function renderTable() {
  if (!$("numbers").open || !result) return;
  const lines = result.rows.map((row) => {
    const line = document.createElement("tr");
    line.insertCell().textContent = time(row.start, result.width < 60);
    for (const name of ["received", ...SERIES]) line.insertCell().textContent = number(row[name]);
    line.insertCell().textContent = STATES[row.state];
    return line;
  });
  $("numbers").querySelector("tbody").replaceChildren(...lines);
}

function renderApi() {
  const stat = $("stat").value;
  $("curl").textContent = `curl -H "Authorization: Bearer $TOKEN" '${address(result.view, stat)}'`;
  // The address itself would answer nobody without a token, so the link opens what it has answered here.
  URL.revokeObjectURL($("json").href);
  $("json").href = URL.createObjectURL(new Blob([result.bodies[stat]], { type: "application/json" }));
}

function announce() {
  const totals = [...$("totals").children].map(({ children: [name, total] }) => name.textContent + " " + total.textContent);
  setText($("status"), `${totals.join(", ")}. ${$("window").textContent}`);
}

function remember(org) {
  const orgs = [org, ...remembered().filter((other) => other !== org)].slice(0, 10);
  localStorage.setItem("orgs", JSON.stringify(orgs));
  $("orgs").replaceChildren(...orgs.map((name) => new Option(name)));
}

const remembered = () => JSON.parse(localStorage.getItem("orgs") ?? "[]");

/** Offer only what has an answer: the form after a choice in it. */
function renderForm() {
  const { range } = Object.fromEntries(new FormData(form));
  $("custom").hidden = range !== "custom";
  for (const choice of form.resolution) {
    choice.disabled = RANGES[range] / WIDTHS[choice.value] > MOST_BUCKETS;
    if (choice.disabled && choice.checked) form.resolution.value = "auto";
  }
}

/** Fill the form from the address, and ask when it names an organization. */
function restore() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name of SHARED) if (given.has(name)) form.elements[name].value = given.get(name);
  form.elements.org.value ||= remembered()[0] ?? "";
  $("token").value ||= sessionStorage.getItem("token") ?? "";
  renderForm();
  if (given.get("org") || ($("org").value && $("token").value)) submit();
  else $("welcome").hidden = false;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
form.addEventListener("change", ({ target }) => {
  if (target.type !== "radio") return;
  renderForm();
  if (target.value === "custom" && result) {
    $("since").value = toField(result.rows[0].start);
    $("until").value = toField(result.rows.at(-1).start + result.width);
  } else if (target.value !== "custom" && asked) submit();
});
$("problem").querySelector("button").addEventListener("click", () => show());
$("live").addEventListener("change", () => ($("live").checked && asked ? show(true) : clearTimeout(timer)));
$("legend").addEventListener("change", render);
$("stat").addEventListener("change", renderApi);
$("numbers").addEventListener("toggle", renderTable);
$("copy").addEventListener("click", async () => {
  getSelection().selectAllChildren($("curl")); // pages that are not served over TLS may only select
  await navigator.clipboard?.writeText($("curl").textContent);
  setText($("copy"), navigator.clipboard ? "Copied" : "Selected, press Ctrl + C");
  setTimeout(() => setText($("copy"), "Copy the command"), 2000);
});
$("zoom").addEventListener("click", ({ target: { value } }) => {
  if (value !== "load") return value && zoom($("chart"), value);
  [$("since").value, $("until").value] = visibleRange($("chart")).map(toField);
  [form.range.value, form.resolution.value] = ["custom", "auto"];
  $("zoom").querySelector("[value=in]").focus(); // the button that was pressed is about to go
  renderForm();
  submit();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => result && render());
addEventListener("hashchange", restore);
restore();
