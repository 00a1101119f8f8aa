/** What can be taken along: the numbers as a table and as CSV, the command and the answer of the API, a link. */

import { address } from "./api.js";
import { write } from "./cards.js";
import { COUNTS, csv } from "./rows.js";
import { number, time } from "./text.js";

const STATES = { complete: "complete", open: "still counting", deleted: "deleted", unknown: "not known" };
const $ = (id) => document.getElementById(id);

/** The rows as a table, if somebody has opened it, and as a file. */
export function renderTable(rows, width, org) {
  offer($("csv"), csv(rows), "text/csv");
  $("csv").download = `${org}-${time(rows[0]?.start ?? 0).replace(/\D/g, "")}.csv`;
  if (!$("numbers").open) return;
  const lines = rows.map((row) => {
    const line = document.createElement("tr");
    line.insertCell().textContent = time(row.start, width < 60);
    for (const name of COUNTS) line.insertCell().textContent = number(row[name]);
    line.insertCell().textContent = STATES[row.state];
    return line;
  });
  $("numbers").querySelector("tbody").replaceChildren(...lines);
}

/** The command that asks for the same, and what was answered: the address alone would answer nobody without a token. */
export function renderApi({ view, bodies }) {
  const stat = $("stat").value;
  $("curl").textContent = `curl -H "Authorization: Bearer $TOKEN" '${address(view, stat)}'`;
  offer($("json"), bodies[stat], "application/json");
}

function offer(link, content, type) {
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([content], { type }));
}

/** Put a text on the clipboard and say so on the button; pages that are not served over TLS may only select. */
export async function copy(button, text, element) {
  const name = button.textContent;
  if (element) getSelection().selectAllChildren(element);
  await navigator.clipboard?.writeText(text);
  write(button, navigator.clipboard ? "Copied" : element ? "Selected, press Ctrl + C" : "Copy it from the address bar");
  setTimeout(() => write(button, name), 2000);
}
