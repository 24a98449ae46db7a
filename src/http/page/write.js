// The form that writes, deletes and counts at a chosen node.

import { act } from "./api.js";
import { byId, el, keyed, setText, show } from "./dom.js";
import { line, plural } from "./format.js";
import { attempt } from "./notices.js";
import { decimal } from "./counters.js";

export class WriteForm {
  #key = null; #written; #chooseNode; #chooseKey;

  /**
   * `written(node)` is told of each write that was done; `chooseNode`, `chooseKey` and `chooseKind` of what the form is
   * about now.
   */
  constructor({ written, chooseNode, chooseKey, chooseKind }) {
    this.#written = written;
    this.#chooseNode = chooseNode;
    this.#chooseKey = chooseKey;
    const form = byId("write");
    form.addEventListener("submit", event => {
      event.preventDefault();
      if (this.kind === "counter") this.#count("by");
      else this.#write();
    });
    for (const radio of form.elements.kind) radio.addEventListener("change", () => { this.#showKind(); chooseKind(); });
    byId("write-key").addEventListener("input", () => { this.#key = null; });
    byId("do-delete").addEventListener("click", () => this.#delete());
    byId("do-delete-counter").addEventListener("click", () => this.#delete());
    byId("do-add").addEventListener("click", () => this.#count("by"));
    byId("do-set").addEventListener("click", () => this.#count("set"));
    byId("do-random").addEventListener("click", () => this.#random());
  }

  /** What is written: `register` or `counter`. */
  get kind() { return byId("write").elements.kind.value; }

  set kind(kind) {
    byId("write").elements.kind.value = kind === "counter" ? "counter" : "register";
    this.#showKind();
  }

  #showKind() {
    show(byId("as-register"), this.kind === "register");
    show(byId("as-counter"), this.kind === "counter");
  }

  /** A key was chosen elsewhere: the form is about it now. */
  choose(key, kind) {
    this.#key = key;
    byId("write-key").value = line(key, 4000);
    this.kind = kind;
    setText(byId("write-said"), "");
  }

  update(model, selection) {
    show(byId("write"), model.status.writes);
    show(byId("writes-off"), !model.status.writes);
    if (!model.status.writes) return;
    const nodes = model.status.nodes.filter(node => node.local && node.state !== "stopped");
    keyed(byId("write-nodes"), nodes, node => node.name, node => {
      const radio = el("input", { type: "radio", name: "node", value: node.name });
      radio.addEventListener("change", () => this.#chooseNode(node.name));
      return el("label", {}, radio, el("span", {}, node.name));
    });
    const chosen = nodes.some(node => node.name === selection.node) ? selection.node : nodes[0]?.name;
    for (const label of byId("write-nodes").children) {
      const radio = label.firstElementChild;
      if (radio.value === chosen && !radio.checked) radio.checked = true;
    }
  }

  #node() { return byId("write").elements.node?.value || undefined; }

  /** The key that is written: the chosen one, which need not be text, or what was typed. */
  #target() {
    const typed = byId("write-key");
    if (!this.#key && !typed.reportValidity()) return null;
    return this.#key ?? { text: typed.value };
  }

  /** Does one thing at the chosen node and says what became of it. */
  async #do(what, say) {
    const key = this.#target();
    if (!key) return;
    const node = this.#node();
    const { done, answer } = await attempt(() => what(node, key));
    setText(byId("write-said"), done ? say(answer, node ?? "") : "Nothing was written.");
    if (!done) return;
    this.#written(node, key);
    this.#chooseKey(key, this.kind);
  }

  #write() {
    const ttl = byId("write-ttl").valueAsNumber;
    const body = { value: { text: byId("write-value").value }, ...(ttl > 0 ? { ttl_ms: Math.round(ttl * 1000) } : {}) };
    return this.#do((node, key) => act("write", { node, key, ...body }), (_, node) => `Written at ${node}.`);
  }

  #delete() {
    return this.#do((node, key) => act("delete", { node, key }),
      (answer, node) => answer?.deleted ? `Deleted at ${node}.` : `There was nothing to delete at ${node}.`);
  }

  #count(how) {
    const n = byId("write-n").valueAsNumber;
    if (!Number.isSafeInteger(n)) {
      setText(byId("write-said"), "N is a whole number.");
      return;
    }
    return this.#do((node, key) => act("incr", { node, key, [how]: n }),
      (answer, node) => `${how === "by" ? `Added ${decimal(n)}` : `Set to ${decimal(n)}`} at ${node}: it counts ${decimal(answer.value)} there.`);
  }

  #random() {
    return this.#do((_, key) => act("random-incr", { key, times: 30 }), answer => {
      const added = Object.entries(answer.added);
      return `Added ${added.map(([node, n]) => `${decimal(n)} at ${node}`).join(", ") || "nothing"}; ${plural(added.length, "node")} took part.`;
    });
  }
}
