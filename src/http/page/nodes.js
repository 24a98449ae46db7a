// A card for each node, with its figures and what can be done to it.

import { byId, el, figures, keyed, setAttribute, setText, show } from "./dom.js";
import { isUp } from "./cluster.js";
import { ago, compact, count, names, size, span } from "./format.js";
import { hueClass, short } from "./hues.js";

const MOST = 64;
/** Up to here a card has room for everything. */
const MOST_WHOLE = 9;
/** Cards that are brought up to date in one frame: what is changed is laid out and painted in it, too. */
const A_FRAME = 12;

const MARKS = { ready: "●", joining: "◔", full: "▲", draining: "◑", stopped: "■", unknown: "?" };
const MEANS = {
  ready: "it holds the state of every peer that it could reach",
  joining: "it fetches the state of its peers",
  full: "at its memory limit: what would grow it is refused",
  draining: "it is shutting down",
  stopped: "it does not run",
  unknown: "nothing was heard of it for a while",
};

const WORDS = {
  stopped: "What it held is gone. Started again, it is empty and takes all from a peer.",
  unknown: "Nothing is heard of it.",
};

export class Nodes {
  #actions; #choose; #version = ""; #next = 0; #left = 0;

  /** `actions(node, model)` are the buttons of a node. */
  constructor(actions, choose) {
    this.#actions = actions;
    this.#choose = choose;
  }

  /** Whether there is more to bring up to date, in another frame. */
  update(model, selection, now) {
    const all = model.status.nodes;
    const nodes = all.length <= MOST ? all : [...all].sort((a, b) => b.local - a.local || isUp(a) - isUp(b)).slice(0, MOST);
    const list = byId("nodes");
    list.classList.toggle("dense", all.length > MOST_WHOLE);
    const version = `${model.at} ${selection.node} ${Math.floor(now / 500)}`;
    if (version !== this.#version) this.#left = nodes.length;
    this.#version = version;
    const turn = new Set();
    for (let i = 0; i < Math.min(A_FRAME, nodes.length); i += 1) turn.add(nodes[(this.#next + i) % nodes.length]);
    this.#next = (this.#next + A_FRAME) % (nodes.length || 1);
    this.#left -= A_FRAME;
    keyed(list, nodes, node => node.name, node => this.#make(node), (card, node) => {
      if (turn.has(node)) this.#fill(card, node, model, selection, now);
    });
    show(byId("nodes-more"), all.length > nodes.length);
    setText(byId("nodes-more"), `${nodes.length} of ${all.length}`);
    return this.#left > 0;
  }

  #make(node) {
    const name = el("button", { type: "button", class: "name" });
    name.addEventListener("click", () => this.#choose({ node: node.name }));
    const card = el("li", {},
      el("div", { class: "head" }, el("h3", {}, name), el("span", { class: "state" })),
      el("p", { class: "digest-line" }, el("span", { class: "chip mono" }), el("span", { class: "quiet small same" })),
      el("p", { class: "quiet small reason" }), el("dl", { class: "figures" }), el("div", { class: "actions" }));
    [card.title_, card.state_] = [name, card.querySelector(".state")];
    [card.chip_, card.same_] = card.querySelector(".digest-line").children;
    [card.reason_, card.figures_, card.actions_] = [...card.children].slice(2);
    return card;
  }

  #fill(card, node, model, selection, now) {
    setAttribute(card, "class", `node-card ${node.state}${selection.node === node.name ? " chosen" : ""}`);
    setText(card.title_, node.name);
    setAttribute(card.title_, "aria-pressed", selection.node === node.name);
    const here = node.local && !model.status.demo ? "this one, " : "";
    setText(card.state_, `${MARKS[node.state] ?? "●"} ${here}${node.state}`);
    setAttribute(card.state_, "title", MEANS[node.state] ?? null);
    setAttribute(card.chip_, "class", `chip mono ${hueClass(node.digest)}`);
    setText(card.chip_, short(node.digest) || "no digest");
    setAttribute(card.chip_, "title", node.digest ? `digest ${node.digest}` : null);
    setText(card.same_, sameAs(node, model));
    const reason = WORDS[node.state] ?? node.reason;
    setText(card.reason_, reason ?? "");
    show(card.reason_, !!reason);
    figures(card.figures_, rows(node, now - model.at, model.nodes.size > MOST_WHOLE));
    const actions = this.#actions(node, model);
    keyed(card.actions_, actions, action => action.label, action => action.button());
    show(card.actions_, actions.length > 0);
  }
}

function sameAs(node, model) {
  const group = model.groups.get(node.digest);
  if (!isUp(node) || !group) return "";
  const others = group.filter(name => name !== node.name);
  const rest = [...model.groups.values()].reduce((sum, names) => sum + names.length, 0) - group.length;
  if (!others.length) return rest ? "no other holds this" : "";
  if (!rest) return "as all others";
  return others.length > 3 ? `as ${others.length} others` : `as ${names(others)}`;
}

function rows(node, since, dense) {
  if (node.state === "stopped" || !node.local && node.state === "unknown") return [];
  const kept = node.retractions || node.late || node.lost;
  return [
    ["Keys", count(node.keys), `${count(node.tombstones)} tombstones`],
    ["Memory", size(node.memory_bytes), `keys and values; tombstones take ${size(node.tombstone_bytes ?? 0)} more`],
    ["Operations", `${compact(node.ops_per_second)}/s`, "commands of clients"],
    ["Received", `${size(node.bytes_in_per_second)}/s`, "from other nodes"],
    ["Sent", `${size(node.bytes_out_per_second)}/s`, "to other nodes"],
    ["Tombstones", dense ? null : count(node.tombstones), "deletes and expiries that are not freed yet"],
    ["Stable time", stableTime(node, since), "every member holds every write up to then"],
    ["Up", dense || !Number.isFinite(node.uptime_ms) ? null : span(node.uptime_ms + since)],
    ["Retractions", kept ? count(node.retractions) : null, "stale copies of keys that had been removed elsewhere"],
    ["Late", kept ? count(node.late) : null, "pushes of what had been removed here"],
    ["Lost", kept ? count(node.lost) : null, "writes that it alone held, and had to give up"],
    ["Clients", dense ? null : node.client ?? null],
    ["Heard", node.local ? null : ago((node.age_ms ?? 0) + since), "these figures are what it said last"],
  ];
}

function stableTime(node, since) {
  if (Number.isFinite(node.stable_age_ms)) return ago(node.stable_age_ms + since);
  return node.state === "unknown" ? null : "never raised";
}
