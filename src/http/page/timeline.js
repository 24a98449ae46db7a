// What happened to the links, the latest first. The server keeps it, so it survives a reload.

import { byId, el, show } from "./dom.js";
import { moment } from "./format.js";

const MOST = 250;

const KINDS = {
  joined: ["●", () => "holds the state of all that it could reach"],
  up: ["▲", peer => `linked with ${peer}`],
  down: ["▼", peer => `lost ${peer}`],
  cut: ["╫", peer => `cut off from ${peer}`],
  mended: ["▲", peer => `mended with ${peer}`],
  healing: ["⇄", peer => `exchanges with ${peer} what differs`],
  healed: ["✓", peer => `holds the same as ${peer}`],
  verified: ["✓", peer => `holds the same as ${peer}`],
  lapsed: ["◌", peer => `no longer waits for ${peer}`],
  refused: ["!", peer => `and ${peer} refuse each other`],
};

export class TimeLine {
  #list = byId("timeline");
  #known = new Set();
  #waiting = [];

  /** An event, which may have been told before: a stream that is opened anew after a loss begins from the start. */
  add(event) {
    // The numbers begin again when a server is restarted, the times do not.
    const name = `${event.id} ${event.time} ${event.node}`;
    if (this.#known.has(name)) return;
    this.#known.add(name);
    this.#waiting.push(event);
  }

  /** Puts what has come since into the list. What was there before the page is not read out. */
  update() {
    if (!this.#waiting.length) return;
    const events = this.#waiting.splice(0).slice(-MOST);
    const list = this.#list;
    const follows = list.scrollTop < 8;
    for (const event of events) list.prepend(entry(event));
    while (list.children.length > MOST) list.lastElementChild.remove();
    if (this.#known.size > 40 * MOST) this.#known = new Set([...this.#known].slice(-20 * MOST));
    if (follows) list.scrollTop = 0;
    show(byId("timeline-empty"), false);
    setTimeout(() => list.setAttribute("aria-live", "polite"), 1000);
  }
}

function entry(event) {
  const [mark, say] = KINDS[event.kind] ?? ["·", peer => `${event.kind}${peer ? ` ${peer}` : ""}`];
  const words = el("div", {}, el("strong", {}, event.node), ` ${say(event.peer)}`);
  if (event.reason) words.append(el("span", { class: "quiet" }, `: ${event.reason}`));
  return el("li", { class: `event kind-${event.kind}` },
    el("span", { class: "mark", "aria-hidden": "true" }, mark), words,
    el("time", { datetime: event.time, class: "quiet mono small" }, moment(event.time)));
}
