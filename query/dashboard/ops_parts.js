/** The parts of the operators' page: each turns what was read into rows. */

import { write } from "./cards.js";
import { commandLine, copier } from "./commands.js";
import { fill, made } from "./keyed.js";
import { ago, number, time } from "./text.js";

const KEPT_BYTES = 65536; // of a dead letter's payload
const $ = (id) => document.getElementById(id);
const at = (seconds) => (seconds === null ? "" : time(Math.floor(seconds), true));
const count = (value) => ({ number: number(value) });
const place = ({ topic, partition }) => `${topic}/${partition}`;

/** What needs somebody, and what is good to know. */
export function renderFindings(findings) {
  $("nothing").hidden = findings.some(({ level }) => level === "act");
  fill(
    $("findings"),
    findings,
    ({ level, command }) => `${level} ${command}`,
    ({ level, command }) => {
      const line = made("p", made("b", level === "act" ? "Act: " : "Note: "), made("span"));
      const item = made("li", line, commandLine(command));
      item.dataset.level = level;
      return item;
    },
    (item, { what }) => write(item.querySelector("span"), what),
  );
}

export function renderPartitions(partitions) {
  table("partitions", partitions, (one) => [
    place(one),
    count(one.position),
    one.lag === null ? "not known" : count(one.lag),
    at(one.complete_until),
    one.retention_deadline === null ? "never, or not known" : at(one.retention_deadline),
    state(one),
    one.consumer,
    { command: one.command },
  ]);
}

/** What a partition is doing, as a warning where that is not counting. */
function state(one) {
  const all = [
    one.retired && "retired",
    !one.has_progress && "not counted yet",
    !one.retired && one.has_progress && one.is_silent && "no consumer tells of it",
    one.is_cut && `counted again since its log was cut back to ${number(one.cut_at)}`,
    ...one.pause_reasons.map((why) => `paused: ${why}`),
    one.hidden && `${number(one.hidden)} behind an open transaction`,
  ].filter(Boolean);
  const text = all.join("; ") || "counting";
  return all.length && !one.retired ? { warning: text } : text;
}

export function renderGaps({ count: many, offsets, last }) {
  write(
    $("gaps-total"),
    many
      ? `${number(offsets)} offsets are lost, in ${number(many)} ${many === 1 ? "gap" : "gaps"}. The last to be seen:`
      : "No offset is lost.",
  );
  table("gaps", last, (one) => [
    place(one), count(one.first), count(one.end), one.why, at(one.seen_at), { command: one.command },
  ]);
}

export function renderReplays(replays) {
  table("replays", replays, (one) => [
    one.replay_id, one.action, one.step, count(one.chunks), at(one.at), one.by, { command: one.command },
  ]);
}

export function renderAudits(audits) {
  table("audits", audits, (one) => [
    at(one.at), one.places.join(", "), count(one.chunks), count(one.compared),
    one.differences ? { warning: number(one.differences), title: one.first } : "none",
    one.by, { command: one.command },
  ]);
}

export function renderRules(rules) {
  table("rules", rules, (one) => [
    String(one.version), one.state, at(one.effective_from), one.published_by, one.note, { command: one.command },
  ]);
  const inForce = rules.find(({ state }) => state === "in force");
  $("rules-text").hidden = !inForce;
  write($("rules-text").querySelector("pre"), inForce?.toml ?? "");
}

/** By topic and reason, the newest of each in full behind it. */
export function renderLetters(letters) {
  $("letters").parentElement.querySelector(".none").hidden = letters.length > 0;
  fill(
    $("letters"),
    letters,
    ({ topic, reason }) => `${topic} ${reason}`,
    () => made("details", made("summary"), made("div")),
    (details, { topic, reason, records, sent, one, command }) => {
      const waiting = sent ? `, of which ${number(sent)} were sent again and are not counted yet` : "";
      write(details.firstChild, `${number(records)} of ${topic}: ${reason}${waiting}`);
      fill(details.lastChild, one ? [{ one, command }] : [], JSON.stringify, letter);
    },
  );
}

function letter({ one, command }) {
  const payload = Object.assign(made("pre", one.payload), { tabIndex: 0, role: "region", ariaLabel: "Payload" });
  const cut = one.payload_bytes > KEPT_BYTES ? `, of which the first ${number(KEPT_BYTES)} are kept` : "";
  const rows = [
    ["Place", one.place],
    ["At (UTC)", `${at(one.kafka_timestamp)}, ${ago(Date.now() / 1000 - one.kafka_timestamp)} ago`],
    ["Error", one.error],
    ["Key", one.key],
    ["Headers", one.headers.map(([name, value]) => `${name}: ${value}`).join("\n")],
    ["Payload", `${number(one.payload_bytes)} bytes${cut}`],
  ];
  const list = made("dl", ...rows.filter(([, text]) => text).flatMap(([name, text]) => [made("dt", name), made("dd", text)]));
  return made("div", list, payload, commandLine(command));
}

/** Fill a table; where there are no rows, say so instead. */
function table(id, rows, cells) {
  const found = $(id);
  found.parentElement.hidden = rows.length === 0;
  const none = found.closest("section").querySelector(".none");
  if (none) none.hidden = rows.length > 0;
  fill(found.tBodies[0], rows, () => "", () => made("tr"), (line, row) => {
    fill(line, cells(row).map((content, i) => ({ content, isFirst: i === 0 })), JSON.stringify, cell);
  });
}

/** A cell with a text, or a number, a warning, a command. The first of a row says what the row is of. */
function cell({ content, isFirst }) {
  const element = made(isFirst ? "th" : "td");
  if (isFirst) element.scope = "row";
  if (content.number) element.className = "number";
  if (content.warning) element.append(Object.assign(made("span", content.warning), { className: "warning", title: content.title ?? "" }));
  else if (content.command) element.append(copier(content.command));
  else element.append(content.number ?? content);
  return element;
}
