/** What is told beside the numbers: problems, how far they can be trusted, and what has changed, for who does not see it. */

import { write } from "./cards.js";
import { showToken } from "./form.js";
import { ago, number, time } from "./text.js";

const BEHIND_SECONDS = 300;
const $ = (id) => document.getElementById(id);

/** Show a problem, or that there is none any more; numbers that were read at `readAt` stay where they are. */
export function complain(problem, { quietly, readAt }) {
  for (const id of ["org", "token", "since", "until"]) $(id).ariaInvalid = String(problem?.field === id);
  $("problem").hidden = !problem;
  if (!problem) return;
  const { message, help = "", retrySeconds = 0, field = "" } = problem;
  if (field === "token") showToken(true);
  const retry = retrySeconds ? ` The next try is in ${number(retrySeconds)} s.` : "";
  const old = readAt ? ` The numbers below are from ${time(Math.round(readAt))} UTC.` : "";
  $("problem").querySelector("button").hidden = !retrySeconds;
  write($("problem").querySelector("h2"), message);
  write($("problem").querySelector("p"), help + retry + old);
  if (field && !quietly) $(field).focus();
}

/** Say up to when everything is counted; a warning where that is late, or not known. */
export function renderTrust({ completeUntil, view }, now) {
  const isBehind = completeUntil !== null && completeUntil <= view.until && now - completeUntil > BEHIND_SECONDS;
  $("complete").hidden = false;
  $("complete").className = completeUntil === null || isBehind ? "warning" : "";
  write(
    $("complete"),
    completeUntil === null
      ? "It is not known how far these counts are complete"
      : `Counted up to ${time(completeUntil)} UTC, ${ago(now - completeUntil)} ago`,
  );
}

/** Tell the totals to who does not see them. */
export function announce(cards) {
  const totals = [...cards.children].map(({ children: [name, total] }) => `${name.textContent} ${total.textContent}`);
  write($("status"), `${totals.join(", ")}. ${$("window").textContent}`);
}
