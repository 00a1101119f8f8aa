/** The four large numbers: what the part of the window that is seen adds up to, as a rate, and against before. */

import { isWhole, sums } from "./rows.js";
import { number, rate, share } from "./text.js";

/** Fill the cards from rows of one width; `before` are those of the period before, or undefined. */
export function renderCards(cards, rows, width, before) {
  const total = sums(rows);
  const whole = rows.filter(isWhole); // a part of a bucket would read as a loss
  const counted = sums(whole);
  for (const card of cards.children) {
    const name = card.dataset.series;
    const [, count, about, against] = card.children;
    const part = name === "received" ? "" : `${share(total[name], total.received)} · `;
    write(count, number(total[name]));
    write(about, part + rate(counted[name], whole.length * width));
    const [sign, text] = before ? change(counted[name], sums(before)[name]) : ["", ""];
    write(against, text);
    against.dataset.sign = sign;
  }
}

/** How much more or less than before, both BigInt: ["more" or "less" or "", text]. */
export function change(now, before) {
  if (now === before) return ["", "the same as before"];
  const [sign, arrow, word] = now > before ? ["more", "▲", "more"] : ["less", "▼", "less"];
  if (before === 0n) return [sign, `${arrow} before there were none`];
  const difference = now > before ? now - before : before - now;
  const percent = (Number(difference) / Number(before)) * 100;
  const about = percent < 0.1 ? "< 0.1" : percent.toLocaleString("en", { maximumFractionDigits: percent < 10 ? 1 : 0 });
  return [sign, `${arrow} ${about} % ${word} than before`];
}

/** A live region is read out whenever it is written, so nothing is written twice. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
