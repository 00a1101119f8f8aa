/** The organizations that are offered: those that were looked at before, and those that the token may see. */

import { organizations } from "./api.js";

const MOST_REMEMBERED = 10;
let seen = { found: [] }; // the organizations of a token

/** The organizations that a token may see, [{slug, …}]; none where it may not list them. */
export async function known(token, signal) {
  if (seen.token === token) return seen.found;
  const found = await organizations(token, signal).catch((error) => {
    if (signal.aborted) throw error;
    return []; // a gateway may let nobody list them
  });
  seen = { token, found };
  offer();
  return found;
}

/** Those that were looked at, the last one first. */
export const remembered = () => JSON.parse(localStorage.getItem("orgs") ?? "[]");

/** Remember one that was looked at. */
export function remember(org) {
  const orgs = [org, ...remembered().filter((other) => other !== org)].slice(0, MOST_REMEMBERED);
  localStorage.setItem("orgs", JSON.stringify(orgs));
  offer();
}

function offer() {
  const all = new Set([...remembered(), ...seen.found.map(({ slug }) => slug)]);
  document.getElementById("orgs").replaceChildren(...[...all].map((name) => new Option(name)));
}
