/** The chart: what was received, stacked from its parts, and where the numbers cannot be trusted yet. */

import { SERIES, number, per } from "./text.js";

const MINUTE = 60000;
const DAY = 86400;
const TICKS = [
  { dtickrange: [null, MINUTE], value: "%H:%M:%S\n%Y-%m-%d" },
  { dtickrange: [MINUTE, DAY * 1000], value: "%H:%M\n%Y-%m-%d" },
  { dtickrange: [DAY * 1000, "M1"], value: "%m-%d\n%Y" },
  { dtickrange: ["M1", null], value: "%Y-%m" },
];
const THIN_PIXELS = 6; // an outline around less would be all that is seen
const LAST_MOMENT = 4294967296000;
let loading;

/** plotly, loaded while the numbers are already on the page. */
function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "dashboard/plotly.min.js";
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      loading = undefined;
      reject(new Error("the chart could not be loaded"));
    };
    document.head.append(script);
  });
  return loading;
}

/**
 * Draw rows of one width, of their parts those in `shown`, and the period before as a line where it is given. `result`
 * is the answer of api.read for the whole window. A zoom stays until another range is asked for.
 */
export async function draw(element, result, { rows, width, before }, shown, onZoom) {
  const Plotly = await plotly();
  const color = (name) => getComputedStyle(element).getPropertyValue(`--${name}`).trim();
  const [from, to] = span(result.view);
  const drawn = { rows, width };
  const isThin = element.clientWidth / rows.length < THIN_PIXELS;
  const parts = SERIES.map((name) =>
    steps(name, drawn, {
      stackgroup: "received",
      fillcolor: color(name),
      line: { width: 0, color: color(name) },
      visible: shown.has(name),
    }),
  );
  const outline = steps("received", drawn, {
    line: { width: isThin ? 0 : 1, color: color("ink") },
    visible: shown.size === SERIES.length, // it would keep the scale when somebody looks at a small part
  });
  const marks = [...untrusted(result, from, to)];
  const isNew = !element.layout;
  const revision = JSON.stringify([result.view.org, result.view.range, result.view.range === "custom" && from]);
  const zoomed = element.layout?.meta === revision && visibleRange(element) && element.layout.xaxis.range;
  await Plotly.react(
    element,
    [outline, ...parts, ...(before ? [earlier(before, width, isThin ? { color: color("muted"), width: 1 } : { color: color("ink"), width: 1.5, dash: "dot" })] : []), ...marks.map((mark) => hatch(mark, color("muted")))],
    {
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
      hovermode: "x unified",
      hoverdistance: -1, // a bucket may be wide
      hoverlabel: { bgcolor: color("panel"), bordercolor: color("line"), font: { color: color("ink") } },
      showlegend: false,
      meta: revision,
      margin: { l: 8, r: 8, t: 24, b: 8 },
      font: { family: getComputedStyle(element).fontFamily, size: 13, color: color("muted") },
      paper_bgcolor: "transparent",
      plot_bgcolor: color("panel"),
      xaxis: {
        type: "date",
        range: zoomed || [from, to].map(utc),
        minallowed: utc(from),
        maxallowed: utc(to),
        automargin: true,
        showgrid: false,
        linecolor: color("line"),
        hoverformat: `%a %Y-%m-%d ${width < DAY ? (width < 60 ? "%H:%M:%S " : "%H:%M ") : ""}UTC`,
        tickformatstops: TICKS,
        spikecolor: color("muted"),
        spikethickness: 1,
        spikedash: "solid",
        nticks: Math.max(3, Math.round(element.clientWidth / 110)),
      },
      yaxis: yAxis(drawn, color("line")),
      yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true },
      shapes: marks.filter((mark) => mark.edge).map((mark) => edge(mark, color("ink"))),
      annotations: marks.filter((mark) => mark.edge).map((mark) => label(mark, from, to, color("ink"))),
    },
    { displayModeBar: false, showTips: false, responsive: true, doubleClick: false },
  );
  if (!isNew) return;
  element.on("plotly_relayout", onZoom);
  element.on("plotly_doubleclick", () => zoom(element, "all"));
}

/** Move what is seen: in, out, earlier, later, all. */
export function zoom(element, action) {
  const [from, to] = whole(element);
  const [left, right] = seen(element);
  const size = right - left;
  const [wanted, length] = {
    in: [left + size / 4, size / 2],
    out: [left - size / 2, size * 2],
    earlier: [left - size / 2, size],
    later: [left + size / 2, size],
    all: [from, to - from],
  }[action];
  const start = Math.max(from, Math.min(wanted, to - length));
  window.Plotly.relayout(element, { "xaxis.range": [utc(start), utc(Math.min(to, start + length))] });
}

/** The [since, until) in epoch seconds that a zoom shows, in whole smallest buckets; nothing when all is seen. */
export function visibleRange(element) {
  const [from, to] = whole(element);
  const [left, right] = seen(element);
  if (left <= from && right >= to) return undefined;
  return [Math.floor(left / 10000) * 10, Math.ceil(right / 10000) * 10];
}

/** What the horizontal axis can show, in milliseconds. */
function whole(element) {
  const { minallowed, maxallowed } = element.layout.xaxis;
  return [minallowed, maxallowed].map(moment);
}

/** What it shows, in milliseconds. */
function seen(element) {
  return element.layout.xaxis.range.map(moment);
}

/** A moment as plotly takes it, text without a time zone: it would show a number in the browser's own time zone. */
function utc(milliseconds) {
  return new Date(milliseconds).toISOString().slice(0, -1);
}

function moment(text) {
  return Date.parse(`${text.replace(" ", "T")}Z`);
}

/** Milliseconds from the start of a view to its end. */
function span({ since, until }) {
  return [since * 1000, Math.min((until + 1) * 1000, LAST_MOMENT)];
}

/** The period before, as a line over the present one. */
function earlier(rows, width, line) {
  return steps("before", { rows, width }, { line }, "received");
}

/** One series as steps, each as wide as its bucket: a thousand bars would take seconds to draw. */
function steps(name, { rows, width }, style, count = name) {
  // The steps change half-way between points, so the first and last bucket get a neighbour out of sight.
  const padded = [rows[0], ...rows, rows.at(-1)];
  const first = rows[0].start - width;
  return {
    name,
    mode: "lines",
    x: padded.map((_, i) => utc((first + i * width) * 1000)),
    xperiod: width * 1000,
    xperiodalignment: "middle",
    y: padded.map((row) => Number(row[count])),
    customdata: padded.map((row) => number(row[count])),
    hovertemplate: `${name} %{customdata}<extra></extra>`,
    ...style,
    line: { shape: "hvh", ...style.line },
  };
}

function yAxis({ rows, width }, gridcolor) {
  const highest = Math.max(...rows.map((row) => Number(row.received)));
  return {
    title: { text: `events ${per(width)}`, standoff: 12, font: { size: 13 } },
    automargin: true,
    fixedrange: true,
    gridcolor,
    zeroline: false,
    rangemode: "tozero",
    tickformat: highest < 1000 ? ",d" : "~s",
    ...(highest < 5 && { dtick: 1, range: [0, 5] }),
  };
}

/** The parts of the window whose counts may still grow, or have been deleted: {from, to, edge, text}. */
function* untrusted({ completeUntil, retainedSince }, from, to) {
  const complete = Math.max(from, completeUntil === null ? to : completeUntil * 1000);
  if (complete < to) yield { from: complete, to, edge: complete, text: "still counting" };
  if (retainedSince * 1000 > from) {
    const end = Math.min(to, retainedSince * 1000);
    yield { from, to: end, edge: end, text: "deleted" };
  }
}

function hatch(mark, color) {
  return {
    name: mark.text,
    type: "bar",
    x: [utc(mark.from)],
    y: [1],
    width: mark.to - mark.from,
    offset: 0,
    yaxis: "y2",
    hoverinfo: "skip",
    marker: {
      color: "rgba(0,0,0,0)",
      line: { width: 0 },
      pattern: { shape: "/", fgcolor: color, fgopacity: 0.4, size: 9, solidity: 0.12 },
    },
  };
}

function edge(mark, color) {
  const line = { color, width: 1.5, dash: "dot" };
  return { type: "line", x0: utc(mark.edge), x1: utc(mark.edge), y0: 0, y1: 1, yref: "paper", line };
}

function label(mark, from, to, color) {
  const left = mark.edge - from > (to - from) / 2;
  return {
    text: mark.text,
    x: utc(mark.edge),
    y: 1,
    yref: "paper",
    yanchor: "bottom",
    xanchor: left ? "right" : "left",
    showarrow: false,
    font: { color, size: 12 },
  };
}
