/** Why: what the events in the window are made of, by reason, project and category; a click looks at one of them. */

import { projects, usage } from "./api.js";
import { widened, widthFor } from "./rows.js";
import { number, share } from "./text.js";

const MOST_ROWS = 6;
const POINTS = 60; // of a small series
const HOUR = 3600;
const LISTS = {
  reason: { groupBy: ["outcome", "reason"] },
  project: { groupBy: ["project"] },
  category: { groupBy: ["category"], category: [], field: "sum(times_seen)" }, // attachments have bytes for a quantity
};

/**
 * What the window of a view is made of: {reason, project, category}, each {rows, whole}, of rows
 * {value, name, kind, total, series}. A list leaves out the filter that chooses in it, so that another can be chosen.
 */
export async function read(view, token, signal) {
  const width = seriesWidth(view);
  const [since, until] = widened(view.since, view.until, width);
  const window = { ...view, since, until, stored: width };
  const [names, ...lists] = await Promise.all([
    projects(view, token, signal),
    ...Object.entries(LISTS).map(async ([list, asked]) => {
      const { [list]: _, ...others } = view.filters;
      return usage({ ...window, filters: others }, { ...asked, ...others }, token, signal);
    }),
  ]);
  const [reasons, ofProjects, categories] = lists;
  const biggest = sorted(ofProjects);
  const series = await Promise.all(
    biggest.slice(0, MOST_ROWS).map(({ by }) => {
      const { project: _, ...others } = view.filters;
      const filters = { ...others, project: by.project };
      return usage({ ...window, filters }, { groupBy: [], ...filters }, token, signal);
    }),
  );
  const rows = {
    reason: sorted(reasons.filter(({ by }) => by.outcome !== "accepted")).map(({ by, ...row }) => ({
      ...row,
      value: by.reason,
      name: by.reason,
      kind: by.outcome,
    })),
    project: biggest.map(({ by, total }, i) => ({
      value: String(by.project),
      name: names[by.project] ?? `project ${by.project}`,
      total,
      series: series[i]?.[0]?.series,
    })),
    category: sorted(categories).map(({ by, ...row }) => ({ ...row, value: by.category, name: by.category })),
  };
  const groups = { reason: reasons, project: ofProjects, category: categories };
  const whole = (list) => groups[list].reduce((sum, { total }) => sum + total, 0n);
  return Object.fromEntries(Object.keys(LISTS).map((list) => [list, { rows: rows[list], whole: whole(list) }]));
}

/** Hours where they are many enough, because they are read from a smaller table. */
function seriesWidth({ since, until }) {
  const seconds = until - since + 1;
  const width = widthFor(seconds, 60, POINTS);
  return Math.min(seconds >= 12 * HOUR ? Math.max(width, HOUR) : width, 24 * HOUR);
}

const sorted = (groups) => groups.toSorted((one, other) => (one.total < other.total ? 1 : one.total > other.total ? -1 : 0));

/** Show what `read` gave; `choose(list, value)` when a row is clicked. */
export function render(panel, found, filters, choose) {
  for (const list of panel.querySelectorAll("[data-list]")) {
    const name = list.dataset.list;
    const { rows, whole } = found[name];
    const focused = list.contains(document.activeElement) && document.activeElement.value;
    list.replaceChildren(
      ...rows.slice(0, MOST_ROWS).map((row) => line(row, whole, filters[name] === row.value, () => choose(name, row.value))),
      ...rest(rows, whole),
    );
    if (focused) [...list.querySelectorAll("button")].find(({ value }) => value === focused)?.focus();
  }
}

function line({ value, name, kind, total, series }, whole, pressed, onClick) {
  const button = Object.assign(document.createElement("button"), { type: "button", value, title: name });
  button.ariaPressed = String(pressed);
  if (kind) button.dataset.kind = kind === "filtered" ? "blacklisted" : "rejected";
  button.append(text("name", name), picture((series ?? []).map(Number)), text("count", number(total)), text("share", share(total, whole)));
  button.addEventListener("click", onClick);
  const item = document.createElement("li");
  item.append(button);
  return item;
}

/** A line for those that have none of their own. */
function* rest(rows, whole) {
  const left = rows.slice(MOST_ROWS);
  if (!left.length && rows.length) return;
  const item = document.createElement("li");
  const total = left.reduce((sum, row) => sum + row.total, 0n);
  item.append(text("name", rows.length ? `${number(left.length)} more` : "none"));
  if (rows.length) item.append(text("count", number(total)), text("share", share(total, whole)));
  yield item;
}

function text(name, content) {
  return Object.assign(document.createElement("span"), { className: name, textContent: content });
}

/** A small series as steps. */
function picture(series) {
  const [width, height] = [72, 18];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.ariaHidden = "true";
  const path = document.createElementNS(svg.namespaceURI, "path");
  const highest = Math.max(1, ...series);
  const steps = series.map((count, i) => {
    const y = (height - (height * count) / highest).toFixed(1);
    return `V${y}H${((width * (i + 1)) / series.length).toFixed(1)}`;
  });
  path.setAttribute("d", `M0 ${height}${steps.join("")}V${height}Z`);
  svg.append(path);
  return svg;
}

