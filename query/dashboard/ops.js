/** The operators' page: reads how counting goes on every few seconds, and shows it. */

import { operating } from "./api.js";
import { write } from "./cards.js";
import * as parts from "./ops_parts.js";
import { number, time } from "./text.js";

const REFRESH_SECONDS = 5;
const $ = (id) => document.getElementById(id);
const PARTS = {
  findings: parts.renderFindings,
  partitions: parts.renderPartitions,
  gaps: parts.renderGaps,
  replays: parts.renderReplays,
  dead_letters: parts.renderLetters,
  audits: parts.renderAudits,
  rules: parts.renderRules,
};

let token = "";
let reading; // the AbortController of the read under way
let timer; // of the next read

/** Read and show; `quietly` when nobody pressed anything. */
async function show(quietly = false) {
  clearTimeout(timer);
  reading?.abort();
  const { signal } = (reading = new AbortController());
  if (!quietly) document.body.ariaBusy = "true"; // every few seconds it would only flicker
  try {
    const found = await operating(token, signal);
    complain(null);
    render(found);
    if (!quietly) {
      showForm(false);
      announce(found);
    }
    next(REFRESH_SECONDS);
  } catch (error) {
    if (signal.aborted) return;
    complain(error, quietly);
    if (error.retrySeconds) next(error.retrySeconds);
  }
  document.body.ariaBusy = "false";
}

/** A token that works makes room. */
function showForm(wanted) {
  $("form").hidden = !wanted;
  $("other-token").hidden = wanted;
}

/** Read again after some seconds, or later, when somebody looks. */
function next(seconds) {
  if (!$("live").checked) return;
  const again = () => show(true);
  const hidden = () => document.addEventListener("visibilitychange", again, { once: true });
  timer = setTimeout(() => (document.hidden ? hidden() : again()), seconds * 1000);
}

function render(found) {
  $("result").hidden = $("read-at").hidden = false;
  write($("read-at"), `As of ${time(Math.floor(found.now), true)} UTC`);
  for (const [name, show] of Object.entries(PARTS)) show(found[name]);
}

function announce({ findings, partitions }) {
  const many = findings.filter(({ level }) => level === "act").length;
  write($("status"), `${number(partitions.length)} partitions; ${many ? number(many) : "nothing"} to act on.`);
}

function complain(problem, quietly) {
  $("token").ariaInvalid = String(problem?.field === "token");
  $("problem").hidden = !problem;
  if (!problem) return;
  const { message, help = "", retrySeconds = 0, field = "" } = problem;
  if (field === "token") {
    showForm(true);
    $("result").hidden = $("read-at").hidden = true; // it is not for everybody who comes to this tab
  }
  const old = $("result").hidden ? "" : ` What is below is old: ${$("read-at").textContent.toLowerCase()}.`;
  $("problem").querySelector("button").hidden = !retrySeconds;
  write($("problem").querySelector("h2"), message);
  write($("problem").querySelector("p"), help + old);
  if (field && !quietly) $(field).focus();
}

/** A token in the address is taken out of it, as on the dashboard. */
function start() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("ops-token", given);
    history.replaceState(null, "", location.pathname);
  }
  token = $("token").value = sessionStorage.getItem("ops-token") ?? "";
  if (token) show();
  else document.body.ariaBusy = "false";
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  sessionStorage.setItem("ops-token", token);
  show();
});
$("other-token").addEventListener("click", () => (showForm(true), $("token").focus()));
$("problem").querySelector("button").addEventListener("click", () => show());
$("live").addEventListener("change", () => ($("live").checked && token ? show(true) : clearTimeout(timer)));
addEventListener("hashchange", start);
start();
