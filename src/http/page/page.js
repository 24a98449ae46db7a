// The page: what is selected, what was heard, and one drawing of it all a frame at most.

import { derive } from "./cluster.js";
import { Copies } from "./copies.js";
import { byId, setText, show } from "./dom.js";
import { Drawing } from "./drawing.js";
import { Feed } from "./feed.js";
import { moment, same, span, word } from "./format.js";
import { observe } from "./hues.js";
import { Keys } from "./keys.js";
import { Links, mostTelling } from "./links.js";
import { RangeMap } from "./map.js";
import { Nodes } from "./nodes.js";
import { watchErrors } from "./notices.js";
import { Stage } from "./stage.js";
import { Steps } from "./steps.js";
import { TimeLine } from "./timeline.js";
import { WriteForm } from "./write.js";

watchErrors();

/** By name, db-2 before db-10: a node keeps its place, whatever becomes of it. */
const ORDER = new Intl.Collator("en", { numeric: true });

let model = null;
const selection = { pair: null, node: null, key: null };
/** A link that a person has chosen is not replaced by a more telling one. */
let pairChosen = false;

const feed = new Feed({
  status: message => {
    message.nodes.sort((a, b) => ORDER.compare(a.name, b.name));
    observe(message.nodes);
    model = derive(message, Date.now());
    follow();
    draw();
  },
  event: message => { timeLine.add(message); draw("timeline"); },
  key: message => { if (selection.key && same(message.key, selection.key)) { copies.set(message); draw("copies"); } },
  keys: message => { keys.set(message); draw("keys"); },
  ranges: message => map.update([message.from, message.to].sort().join("\n"), message),
}, connection);

const steps = new Steps();
const stage = new Stage(what => steps.did(what));
const drawing = new Drawing(choose);
const nodes = new Nodes((node, model) => stage.ofNode(node, model), choose);
const links = new Links((pair, model) => stage.ofLink(pair, model), choose);
const map = new RangeMap();
const timeLine = new TimeLine();
const copies = new Copies();
const keys = new Keys(() => { address(); listen(); }, key => chooseKey(key));
const form = new WriteForm({
  written: node => { steps.wrote(node); keys.written(); },
  chooseNode: node => { selection.node = node; draw(); },
  chooseKey: (key, kind) => chooseKey(key, kind, false),
  chooseKind: address,
});

/** A link or a node was chosen in the drawing or in a list. */
function choose({ pair, node }) {
  if (node) selection.node = node;
  if (pair) {
    selection.pair = pair;
    pairChosen = true;
    address();
    listen();
  }
  draw();
}

/** A key was chosen; `fill` puts it into the form too. */
function chooseKey(key, kind, fill = true) {
  if (!selection.key || !same(key, selection.key)) {
    selection.key = key;
    copies.set(null);
    address();
    listen();
  }
  if (fill) {
    form.choose(key, kind ?? kindOf(key));
    address();
  }
  draw();
}

const kindOf = key => byId("keys-rows").byKey?.get(word(key))?.querySelector(".value.counter") ? "counter" : "register";

/** While nobody has chosen a link, the one that differs most is looked at. */
function follow() {
  if (pairChosen && model.pairs.has(selection.pair)) return;
  const telling = mostTelling(model, selection.pair);
  if (telling === selection.pair) return;
  selection.pair = telling ?? null;
  listen();
}

/** Asks the stream for what is looked at. */
function listen() {
  map.select(selection.pair);
  const { key } = selection;
  feed.select({
    ...(key ? "text" in key ? { key: key.text } : { key64: key.base64 } : {}),
    prefix: keys.prefix,
    ...(selection.pair ? { map: selection.pair.split("\n").join(",") } : {}),
  });
}

/** What is looked at is in the address, so that a reload or a colleague sees the same. */
function address() {
  const { key, pair } = selection;
  const parameters = new URLSearchParams();
  if (key && "text" in key) parameters.set("key", key.text);
  else if (key) parameters.set("key64", key.base64);
  if (form.kind === "counter") parameters.set("as", form.kind);
  if (keys.prefix) parameters.set("prefix", keys.prefix);
  if (pairChosen && pair) parameters.set("link", pair.split("\n").join(","));
  const text = parameters.toString();
  // An address of tens of kilobytes helps nobody.
  history.replaceState(null, "", text && text.length < 2000 ? `#${text}` : location.pathname + location.search);
}

function readAddress() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const key = parameters.get("key"), key64 = parameters.get("key64"), link = parameters.get("link");
  if (key) selection.key = { text: key };
  else if (key64) selection.key = { base64: key64 };
  if (selection.key) form.choose(selection.key, parameters.get("as"));
  else form.kind = parameters.get("as");
  keys.prefix = byId("prefix").value = parameters.get("prefix") ?? "";
  if (link?.includes(",")) {
    selection.pair = link.split(",").sort().join("\n");
    pairChosen = true;
  }
}

/** What is drawn, in this order, when what it shows may have changed. One that returns true goes on in the next frame. */
const PARTS = {
  timeline: () => timeLine.update(),
  head: drawHead,
  steps: () => steps.update(model),
  drawing: () => drawing.update(model, selection),
  stage: () => { stage.update(model); stage.updateChosen(model, selection); },
  links: now => links.update(model, selection, now),
  nodes: now => nodes.update(model, selection, now),
  form: () => form.update(model, selection),
  keys: () => keys.update(model, selection),
  copies: () => copies.update(model, selection),
};
/** Milliseconds of a frame that go into it; what is left over is drawn in the next. */
const BUDGET = 5;
const stale = new Set();
let waiting = false;

function draw(...parts) {
  for (const part of parts.length ? parts : Object.keys(PARTS)) stale.add(part);
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(drawStale);
}

function drawStale() {
  const begin = performance.now();
  const left = [];
  waiting = false;
  for (const [part, drawIt] of Object.entries(PARTS)) {
    if (!stale.has(part) || !model && part !== "timeline") continue;
    if (performance.now() - begin > BUDGET) left.push(part);
    else {
      stale.delete(part);
      if (drawIt(Date.now())) left.push(part);
    }
  }
  if (left.length) draw(...left);
}

function drawHead() {
  const { status, verdict } = model;
  byId("verdict").dataset.tone = verdict.tone;
  setText(byId("verdict-head"), verdict.head);
  setText(byId("verdict-more"), verdict.more);
  setText(byId("cluster-name"), status.cluster);
  setText(byId("version"), `Sapwood ${status.version}.`);
  show(byId("values-off"), !status.values);
  document.title = `${verdict.tone === "bad" ? "! " : ""}${status.cluster} – Sapwood`;
}

/** The state of the stream, where it cannot be overlooked. */
function connection() {
  const words = { off: "connecting", connecting: "connecting", live: "live", lost: "lost", paused: "paused" };
  byId("live").dataset.live = feed.state === "live" ? "yes" : "no";
  setText(byId("live-word"), words[feed.state]);
  // A moment without a connection is not worth a banner.
  const lost = feed.state === "lost" && Date.now() - feed.since > 800;
  show(byId("lost"), lost);
  document.body.classList.toggle("stale", lost);
  if (!lost) return;
  const wait = feed.retryAt - Date.now();
  setText(byId("lost-more"), `${model ? `What you see is from ${moment(model.at).slice(-12, -4)}. ` : ""}${wait > 300 ? `Trying again in ${span(Math.ceil(wait / 1000) * 1000).replace(".0", "")}.` : "Trying again."}`);
}

byId("lost-now").addEventListener("click", () => feed.retry());
// Ages grow by themselves, and what has not changed for a while is at rest: arithmetic, nothing is asked for.
setInterval(() => {
  connection();
  if (!model || document.hidden) return;
  if (Date.now() - model.at > 900 && observe(model.status.nodes)) draw("drawing");
  draw("links", "nodes");
}, 1000);
readAddress();
listen();
