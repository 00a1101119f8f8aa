/** Who: the organizations that a token may see, how much each received, and how that changed. */

import { usage, withoutSlug } from "./api.js";
import { change } from "./cards.js";
import { widened, widthFor } from "./rows.js";
import { number, time } from "./text.js";

const MOST = 200;
const TOGETHER = 8; // requests under way: a list is no reason to keep others waiting
const MOST_INTERVALS = 900;
const HOUR = 3600;

/** What each organization {slug} received in the window of a view, and in the one before: {rows, left, since, until}.
 *
 * Those that have events and no slug come with their id.
 */
export async function read(view, organizations, token, signal) {
  const seconds = view.until - view.since + 1;
  const width = Math.min(widthFor(2 * seconds, seconds < 12 * HOUR ? 60 : HOUR, MOST_INTERVALS), 24 * HOUR);
  const [since, until] = widened(view.since, view.until, width);
  const count = (until - since + 1) / width;
  const ask = async ({ slug }) => {
    const window = { org: slug, since: Math.max(0, since - count * width), until, stored: width, filters: {} };
    const [group] = await usage(window, { groupBy: [] }, token, signal);
    const [received, before] = [group?.series.slice(-count), group?.series.slice(0, -count)].map(sum);
    return { slug, received, before };
  };
  const rows = [];
  for (let i = 0; i < Math.min(organizations.length, MOST); i += TOGETHER) {
    rows.push(...(await Promise.all(organizations.slice(i, Math.min(i + TOGETHER, MOST)).map(ask))));
  }
  const unnamed = await withoutSlug({ since, until, width }, token, signal).catch((error) => {
    if (signal.aborted) throw error;
    return []; // a gateway may let nobody ask for them
  });
  for (const { id, received, before } of unnamed) rows.push({ id, received: BigInt(received), before: BigInt(before) });
  return { rows, left: Math.max(0, organizations.length - MOST), since, until };
}

const sum = (series = []) => series.reduce((total, count) => total + BigInt(count), 0n);
const size = (count) => (count < 0n ? -count : count);
const ORDERS = { received: (row) => row.received, change: (row) => size(row.received - row.before) };

/** Show what `read` gave, in the order "received" or "change"; `choose(slug)` when one is clicked. */
export function render(panel, { rows, left, since, until }, order, choose) {
  const by = ORDERS[order];
  const sorted = rows.toSorted((one, other) => (by(one) < by(other) ? 1 : by(one) > by(other) ? -1 : 0));
  panel.querySelector("tbody").replaceChildren(...sorted.map((row) => line(row, choose)));
  const others = left ? ` ${number(left)} more are not shown.` : "";
  panel.querySelector("p").textContent = `${time(since)} to ${time(until + 1)} UTC, and as long before.${others}`;
}

function line({ slug, id, received, before }, choose) {
  const row = document.createElement("tr");
  row.insertCell().append(slug === undefined ? unnamed(id) : named(slug, choose));
  row.insertCell().textContent = number(received);
  row.insertCell().textContent = number(before);
  row.insertCell().textContent = change(received, before)[1];
  return row;
}

function named(slug, choose) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: slug });
  button.addEventListener("click", () => choose(slug));
  return button;
}

/** Nobody can ask for it before it has a slug. */
function unnamed(id) {
  if (id === "0") return "Events without an organization";
  const cell = document.createElement("span");
  const command = Object.assign(document.createElement("code"), { textContent: `orgstats orgs add SLUG --id ${id}` });
  cell.append(`${id} has no slug: `, command);
  return cell;
}
