/** The public API as the page needs it: where to ask, what came back, and what to do when it did not. */

const RETRY_SECONDS = 5;
const OUTCOMES = { accepted: "accepted", rejected: "rate_limited", blacklisted: "filtered" };

/** Why there are no numbers, in words that help; `retrySeconds` where asking again can. */
export class Problem extends Error {
  constructor(title, help, { retrySeconds = 0, field = "" } = {}) {
    super(title);
    Object.assign(this, { help, retrySeconds, field });
  }
}

/** The address of one stat of a view {org, since, until, stored}; with filters, of all of them in `stats_v2`. */
export function address(view, stat) {
  if (Object.keys(view.filters).length) return usageAddress(view, { groupBy: ["outcome"] });
  const name = Object.entries(NAMES).find(([, width]) => width === view.stored)[0];
  return url(view, "stats", [["stat", stat], ["since", view.since], ["until", view.until], ["resolution", name]]);
}
const NAMES = { "10s": 10, "1h": 3600, "1d": 86400 };

/** The address of usage in a view's window; `asked` are more parameters, each with one value or a list of them. */
export function usageAddress({ org, since, until, stored, filters }, asked) {
  const iso = (seconds) => `${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`;
  const all = {
    field: "sum(quantity)",
    interval: `${stored / 60}m`.replace("1440m", "1d"),
    start: iso(since),
    end: iso(until + 1),
    category: "error",
    outcome: Object.values(OUTCOMES),
    ...filters,
    ...asked,
  };
  const pairs = Object.entries(all).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
  return url({ org }, "stats_v2", pairs);
}

function url({ org }, route, pairs) {
  const quoted = encodeURIComponent(org).replaceAll("'", "%27"); // it will stand in quotes in a shell
  const query = String(new URLSearchParams(pairs)).replaceAll("'", "%27");
  return new URL(`api/0/organizations/${quoted}/${route}/?${query}`, document.baseURI).href;
}

/** The rows {start, received, accepted, rejected, blacklisted, state} of a view; counts are BigInt. */
export async function read(view, token, signal) {
  return Object.keys(view.filters).length ? readFiltered(view, token, signal) : readAll(view, token, signal);
}

async function readAll(view, token, signal) {
  const ask = (stat) => askOne(address(view, stat), token, signal, view);
  // Received is asked for last: counts grow, and so it is not less than its parts.
  const [rejected, blacklisted] = await Promise.all([ask("rejected"), ask("blacklisted")]);
  const received = await ask("received");
  const known = [rejected, blacklisted, received].map((answer) => answer.completeUntil);
  const trust = {
    completeUntil: known.includes(null) ? null : Math.min(...known),
    retainedSince: received.retainedSince,
  };
  const rows = received.json.map(([start, count], i) => {
    const [all, no, out] = [count, rejected.json[i][1], blacklisted.json[i][1]].map(BigInt);
    const accepted = all > no + out ? all - no - out : 0n;
    return { start, received: all, accepted, rejected: no, blacklisted: out, state: stateOf(start, view.stored, trust) };
  });
  const bodies = { received: received.body, rejected: rejected.body, blacklisted: blacklisted.body };
  return { view, rows, width: view.stored, ...trust, bodies };
}

async function readFiltered(view, token, signal) {
  const { completeUntil, retainedSince, json, body } = await askOne(address(view), token, signal, view);
  const trust = { completeUntil, retainedSince };
  const series = (name) => json.groups.find(({ by }) => by.outcome === OUTCOMES[name])?.series["sum(quantity)"];
  const [accepted, rejected, blacklisted] = ["accepted", "rejected", "blacklisted"].map(series);
  const rows = json.intervals.map((text, i) => {
    const start = Date.parse(text) / 1000;
    const [yes, no, out] = [accepted, rejected, blacklisted].map((counts) => BigInt(counts?.[i] ?? 0));
    const state = stateOf(start, view.stored, trust);
    return { start, received: yes + no + out, accepted: yes, rejected: no, blacklisted: out, state };
  });
  return { view, rows, width: view.stored, ...trust, bodies: { received: body, rejected: body, blacklisted: body } };
}

/** The groups of usage in a view's window: [{by, total (BigInt), series}], numbers above 2^53 as BigInt. */
export async function usage(view, asked, token, signal) {
  const { json } = await askOne(usageAddress(view, asked), token, signal, view);
  return json.groups.map(({ by, totals, series }) => ({
    by,
    total: BigInt(Object.values(totals)[0]),
    series: Object.values(series ?? {})[0],
  }));
}

/** The organizations that a token may see: [{slug, …}]. */
export async function organizations(token, signal) {
  const address = new URL("api/0/organizations/", document.baseURI).href;
  return (await askOne(address, token, signal, { org: "" })).json;
}

/** Organizations without a slug, [{id, received, before}], in the window of whole intervals; none for who may not know. */
export async function withoutSlug({ since, until, width }, token, signal) {
  const query = new URLSearchParams({ start: since, end: until + 1, interval: `${width / 60}m` });
  const address = new URL(`api/0/organizations-without-slug/?${query}`, document.baseURI).href;
  const { json } = await askOne(address, token, signal, { org: "" });
  return json.organizations;
}

/** {id: slug} of the organization's projects that have a name. */
export async function projects({ org }, token, signal) {
  const { json } = await askOne(url({ org }, "projects", []), token, signal, { org });
  return Object.fromEntries(json.map(({ id, slug }) => [id, slug]));
}

/** How far a bucket's counts can be trusted. */
function stateOf(start, width, { completeUntil, retainedSince }) {
  if (start < retainedSince) return "deleted";
  if (start + width > (completeUntil ?? Date.now() / 1000)) return "open";
  return completeUntil === null ? "unknown" : "complete";
}

/** How counting goes on, for operators. */
export async function operating(token, signal) {
  const address = new URL("api/0/ops/", document.baseURI).href;
  return (await askOne(address, token, signal, { ops: true })).json;
}

async function askOne(url, token, signal, view) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(url, { headers, signal }).catch((error) => {
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
    json: JSON.parse(body, exact),
    completeUntil: seconds("X-Stats-Complete-Until"),
    retainedSince: seconds("X-Stats-Retained-Since") ?? 0,
  };
}

/** Above 2^53 a number of JavaScript is not exact, so a count is taken from the text. */
function exact(_, value, context) {
  return typeof value === "number" && value > Number.MAX_SAFE_INTEGER ? BigInt(context?.source ?? value) : value;
}

function problem(answer, body, { org, ops }) {
  const retrySeconds = Number(answer.headers.get("Retry-After")) || RETRY_SECONDS;
  const detail = detailOf(body);
  switch (answer.status) {
    case 400:
      return new Problem("This cannot be asked", detail);
    case 401:
      return detail === "Invalid token"
        ? new Problem("The token is not valid", `It has expired, was revoked, or is mistyped. ${ops ? OPS_TOKEN : NEW_TOKEN}`, TOKEN)
        : new Problem("A token is needed", ops ? OPS_TOKEN : `Type one that may read this organization. ${NEW_TOKEN}`, TOKEN);
    case 403:
      if (ops) return new Problem("This token may not see how counting goes on", `It needs the scope ops. ${OPS_TOKEN}`, TOKEN);
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
      if (ops) return new Problem("This cannot be read at the moment", NO_OPS, { retrySeconds });
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
const OPS_TOKEN = "The command “orgstats tokens create --ops” makes one.";
const NO_OPS =
  "ClickHouse is away or too slow, or its user may not read what is shown here: the log of orgstats serve says which.";
