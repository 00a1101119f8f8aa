/** The public API as the page needs it: where to ask, what came back, and what to do when it did not. */

import { WIDTHS } from "./text.js";

const RETRY_SECONDS = 5;

/** Why there are no numbers, in words that help; `retrySeconds` where asking again can. */
export class Problem extends Error {
  constructor(title, help, { retrySeconds = 0, field = "" } = {}) {
    super(title);
    Object.assign(this, { help, retrySeconds, field });
  }
}

/** The address of one stat of a view {org, since, until, resolution}. */
export function address(view, stat) {
  const query = new URLSearchParams({ stat, since: view.since, until: view.until });
  if (view.resolution !== "auto") query.set("resolution", view.resolution);
  const org = encodeURIComponent(view.org).replaceAll("'", "%27"); // it will stand in quotes in a shell
  return new URL(`api/0/organizations/${org}/stats/?${query}`, document.baseURI).href;
}

/** The width in seconds of the buckets that answer a view, by the API's own rule. */
export function width({ since, until, resolution }) {
  if (resolution !== "auto") return WIDTHS[resolution];
  return until - since <= 3600 ? 10 : until - since <= 604800 ? 3600 : 86400;
}

/** The rows {start, received, accepted, rejected, blacklisted, state} of a view; counts are BigInt. */
export async function read(view, token, signal) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const ask = (stat) => askOne(address(view, stat), { headers, signal }, view);
  // Received is asked for last: counts grow, and so it is not less than its parts.
  const [rejected, blacklisted] = await Promise.all([ask("rejected"), ask("blacklisted")]);
  const received = await ask("received");
  const known = [rejected, blacklisted, received].map((answer) => answer.completeUntil);
  const completeUntil = known.includes(null) ? null : Math.min(...known);
  const { retainedSince } = received;
  const rows = received.points.map(([start, count], i) => {
    const parts = rejected.points[i][1] + blacklisted.points[i][1];
    return {
      start,
      received: count,
      accepted: count > parts ? count - parts : 0n,
      rejected: rejected.points[i][1],
      blacklisted: blacklisted.points[i][1],
      state: stateOf(start, start + width(view), { completeUntil, retainedSince }),
    };
  });
  const bodies = { received: received.body, rejected: rejected.body, blacklisted: blacklisted.body };
  return { view, rows, width: width(view), completeUntil, retainedSince, bodies };
}

/** How far a bucket's counts can be trusted. */
function stateOf(start, end, { completeUntil, retainedSince }) {
  if (start < retainedSince) return "deleted";
  if (end > (completeUntil ?? Date.now() / 1000)) return "open";
  return completeUntil === null ? "unknown" : "complete";
}

async function askOne(url, options, view) {
  const answer = await fetch(url, options).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server cannot be reached", "It may be starting, or your network is down.", {
      retrySeconds: RETRY_SECONDS,
    });
  });
  const body = await answer.text();
  if (!answer.ok) throw problem(answer, body, view);
  const seconds = (name) => (answer.headers.has(name) ? Number(answer.headers.get(name)) : null);
  return {
    body,
    // Above 2^53 a number of JavaScript is not exact, so a count is read as text, then as BigInt.
    points: JSON.parse(body.replace(/, ?(\d+)\]/g, ',"$1"]')).map(([start, count]) => [start, BigInt(count)]),
    completeUntil: seconds("X-Stats-Complete-Until"),
    retainedSince: seconds("X-Stats-Retained-Since") ?? 0,
  };
}

function problem(answer, body, { org }) {
  const retrySeconds = Number(answer.headers.get("Retry-After")) || RETRY_SECONDS;
  const detail = detailOf(body);
  switch (answer.status) {
    case 400:
      return new Problem("This cannot be asked", detail);
    case 401:
      return detail === "Invalid token"
        ? new Problem("The token is not valid", `It has expired, was revoked, or is mistyped. ${NEW_TOKEN}`, TOKEN)
        : new Problem("A token is needed", `Type one that may read this organization. ${NEW_TOKEN}`, TOKEN);
    case 403:
      return new Problem(
        `This token may not read “${org}”`,
        "Is the slug right? If so, the token belongs to another organization or lacks the scope org:read.",
        TOKEN,
      );
    case 404:
      return new Problem(`There is no organization “${org}”`, "Check the slug; the command “orgstats orgs ls” shows all.", {
        field: "org",
      });
    case 429:
      return new Problem("Too many requests", "This token has used up its requests for now.", { retrySeconds });
    case 503:
      return new Problem("The counts cannot be read at the moment", "ClickHouse is away or too slow.", {
        retrySeconds,
      });
    default:
      return new Problem(`The server answered with status ${answer.status}`, detail, { retrySeconds });
  }
}

function detailOf(body) {
  try {
    return JSON.parse(body).detail ?? "";
  } catch {
    return ""; // a gateway's own page, perhaps
  }
}

const TOKEN = { field: "token" };
const NEW_TOKEN = "The command “orgstats tokens create” makes a new one.";
