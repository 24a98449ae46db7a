// What each incarnation has counted, as each node knows it.

import { byId, el, keyed, setAttribute, setText, show } from "./dom.js";

/** Nodes that have a column of their own. */
const MOST_COLUMNS = 8;
/** Rows: a restarted node counts in a new slot, so there can be many. */
const MOST_SLOTS = 60;

/** Decimal text of any length with its digits grouped. */
export const decimal = text => String(text ?? "").replace(/\B(?=(\d{3})+(?!\d))/g, ",");

export function fillCounter(copies) {
  const counting = copies.filter(copy => copy.counter).slice(0, MOST_COLUMNS);
  show(byId("counter"), counting.length > 0);
  if (!counting.length) return;
  const columns = ["Counted by", ...counting.map(copy => `at ${copy.node}`)];
  keyed(byId("counter-head"), columns, name => name,
    name => el("th", { scope: "col", class: name === columns[0] ? "" : "number" }, name));
  const slots = new Map();
  for (const copy of counting) for (const slot of copy.counter.slots) slots.set(slot.incarnation, slot);
  const rows = [...slots.values()].sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0).slice(0, MOST_SLOTS);
  const bases = counting.map(copy => copy.counter.base);
  const based = bases.some(base => base && base !== "0");
  keyed(byId("counter-rows"), [...(based ? [null] : []), ...rows], slot => slot?.incarnation ?? "base", slot =>
    el("tr", {}, el("th", { scope: "row" }, slot ? slot.name || "unknown" : "set to",
      el("span", { class: "quiet mono small" }, slot ? ` ${slot.incarnation.slice(0, 6)}` : ""))),
  (row, slot) => {
    cells(row, counting, copy => {
      if (!slot) return { text: decimal(copy.counter.base ?? "0") };
      const known = copy.counter.slots.find(known => known.incarnation === slot.incarnation);
      if (!known) return { text: "–" };
      const both = known.down && known.down !== "0";
      return { text: decimal(known.sum), title: both ? `${decimal(known.up)} up, ${decimal(known.down)} down` : null };
    });
    setAttribute(row, "title", slot && !slot.active ? "this incarnation has ended" : null);
  });
  const foot = byId("counter-foot");
  if (!foot.firstElementChild) foot.append(el("th", { scope: "row" }, "Total"));
  cells(foot, counting, copy => ({ text: decimal(copy.counter.total) }));
}

function cells(row, copies, of) {
  while (row.cells.length < copies.length + 1) row.append(el("td", { class: "number mono" }));
  while (row.cells.length > copies.length + 1) row.lastElementChild.remove();
  copies.forEach((copy, i) => {
    const { text, title } = of(copy);
    const cell = row.cells[i + 1];
    setText(cell, text);
    setAttribute(cell, "title", title ?? null);
  });
}
