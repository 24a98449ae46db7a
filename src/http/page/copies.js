// One key as every node has it: side by side, with who won and why.

import { byId, el, figures, keyed, setAttribute, setText, show } from "./dom.js";
import { count, moment, names, size } from "./format.js";
import { put } from "./keys.js";
import { fillCounter } from "./counters.js";

/** Beyond this many nodes those that hold the same share a card. */
const MOST_APART = 8;

export class Copies {
  #seen = null;

  /** What the stream says of the chosen key. */
  set(message) { this.#seen = message; }

  get seen() { return this.#seen; }

  update(model, selection) {
    show(byId("key"), !!selection.key);
    show(byId("key-empty"), !selection.key);
    if (!selection.key) return;
    put(byId("key-name"), selection.key, 2000);
    const seen = this.#seen;
    setText(byId("key-why"), seen ? seen.why ?? "" : "Asking the nodes.");
    const cards = seen ? cardsOf(seen.copies) : [];
    const best = largest(cards);
    const disagree = new Set(cards.filter(card => card.copy.answered).map(card => contentOf(card.copy))).size > 1;
    keyed(byId("copies"), cards, card => card.nodes[0], make, (item, card) => fill(item, card, disagree, best, model));
    fillCounter(seen?.copies ?? []);
  }
}

const contentOf = copy => copy.answered
  ? `${copy.state} ${copy.timestamp ?? ""} ${copy.deadline ?? ""} ${copy.counter?.total ?? ""}` : "no answer";

function cardsOf(copies) {
  if (copies.length <= MOST_APART) return copies.map(copy => ({ nodes: [copy.node], copy }));
  const cards = new Map();
  for (const copy of copies) {
    const content = contentOf(copy);
    if (cards.has(content)) cards.get(content).nodes.push(copy.node);
    else cards.set(content, { nodes: [copy.node], copy });
  }
  return [...cards.values()];
}

/** The largest timestamp of a register: the one that stands, or will once all have met. */
function largest(cards) {
  if (cards.some(({ copy }) => copy.counter)) return "";
  return cards.reduce((best, { copy }) => copy.answered && copy.timestamp > best ? copy.timestamp : best, "");
}

function make() {
  const item = el("li", {}, el("div", { class: "head" }, el("h3"), el("span", { class: "badge" })),
    el("p", { class: "mono value" }), el("dl", { class: "figures" }));
  return item;
}

function fill(item, { nodes, copy }, disagree, best, model) {
  const [head, value, list] = item.children;
  const wins = disagree && best && copy.answered && copy.timestamp === best;
  const older = disagree && best && !wins && copy.answered && !copy.counter;
  setAttribute(item, "class", `copy ${copy.state}${wins ? " wins" : ""}${older ? " older" : ""}`);
  setText(head.firstElementChild, names(nodes, 6));
  setAttribute(head.firstElementChild, "title", nodes.length > 6 ? nodes.join(", ") : null);
  setText(head.lastElementChild, wins ? "✓ wins" : older ? "older" : "");
  if (!copy.answered) say(value, "no answer");
  else if (copy.state === "absent") say(value, "absent");
  else if (copy.state === "dead") say(value, "deleted");
  else if (copy.counter) say(value, copy.counter.total);
  else if (copy.value) {
    setAttribute(value, "class", "mono value");
    put(value, copy.value, 1000);
  } else say(value, model.status.values ? "" : "not shown");
  figures(list, !copy.answered || copy.state === "absent" ? [] : [
    ["Written", copy.time ? moment(copy.time) : null],
    ["By", copy.origin ?? null],
    ["Size", copy.value_bytes > 40 || copy.value?.cut ? size(copy.value_bytes) : null, `${count(copy.value_bytes)} bytes`],
    ["Expires", copy.deadline ? moment(copy.deadline) : null],
    ["Timestamp", copy.timestamp ?? null, "time and incarnation of the writer; the larger one wins"],
  ]);
}

function say(node, text) {
  setAttribute(node, "class", /^-?\d+$/.test(text) ? "mono value" : "value quiet");
  setText(node, text);
}
