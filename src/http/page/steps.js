// The first five minutes of a demonstration, as a list that ticks itself off.

import { byId, el, keyed, setAttribute, setText, show } from "./dom.js";

/** What is ticked survives a reload, for as long as the tab does. */
const STORE = "sapwood-steps";

export class Steps {
  #model = null;
  #state = { done: {}, hidden: false, island: null, sides: [] };

  constructor() {
    try { Object.assign(this.#state, JSON.parse(sessionStorage.getItem(STORE) ?? "{}")); } catch { /* begins anew */ }
    byId("steps-close").addEventListener("click", () => {
      this.#state.hidden = true;
      this.#keep();
      show(byId("steps"), false);
      byId("main").focus();
    });
  }

  #keep() {
    try { sessionStorage.setItem(STORE, JSON.stringify(this.#state)); } catch { /* lasts as long as the page */ }
  }

  #tick(step) {
    if (this.#state.done[step]) return;
    this.#state.done[step] = true;
    this.#keep();
  }

  /** A key was written at a node. */
  wrote(node) {
    this.#tick("write");
    const sets = this.#model?.verdict.sets ?? [];
    if (sets.length < 2) return;
    const side = sets.findIndex(set => set.includes(node));
    if (side >= 0 && !this.#state.sides.includes(side)) this.#state.sides.push(side);
    if (this.#state.sides.length > 1) this.#tick("both");
    this.#keep();
  }

  /** Something was cut or mended. */
  did(what) {
    if (what === "mend" && this.#state.done.isolate) this.#tick("mend");
    if (what === "isolate" || what === "cut") this.#state.sides = [];
    this.#keep();
  }

  update(model) {
    this.#model = model;
    const { demo, writes, faults } = model.status;
    const visible = demo && writes && faults && !this.#state.hidden;
    show(byId("steps"), visible);
    if (!visible) return;
    const { done } = this.#state;
    if (model.verdict.apart) this.#tick("isolate");
    if (done.mend && !model.verdict.apart && model.verdict.equal) this.#tick("equal");
    const nodes = model.status.nodes.filter(node => node.local && node.state !== "stopped").map(node => node.name);
    const alone = model.verdict.apart ? model.verdict.sets.at(-1)[0] : nodes[0];
    const other = model.verdict.apart ? model.verdict.sets[0][0] : nodes[1];
    const list = [
      ["write", "Write a key", "at any node: it is on all of them at once"],
      ["isolate", "Isolate a node", `with the button on its card, say of ${alone}; or cut a single link and see the third relay`],
      ["both", "Write on both sides", `the same key at ${alone} and at ${other}: each shows its own value`],
      ["mend", "Mend", "and watch the differing ranges go"],
      ["equal", "All are equal again", "one colour, one digest; the later write has won, and counters are summed"],
    ];
    const next = list.find(([name]) => !done[name])?.[0];
    show(byId("steps-next"), !next);
    keyed(byId("steps-list"), list, ([name]) => name, () => el("li", {}, el("span", { class: "tick", "aria-hidden": "true" }),
      el("div", {}, el("strong"), el("span", { class: "quiet small" }), el("span", { class: "unseen" }))),
    (item, [name, title, hint]) => {
      setAttribute(item, "class", done[name] ? "done" : name === next ? "next" : null);
      setAttribute(item, "aria-current", name === next ? "step" : null);
      setText(item.firstElementChild, done[name] ? "✓" : list.findIndex(step => step[0] === name) + 1);
      const [strong, small, unseen] = item.lastElementChild.children;
      setText(strong, title);
      setText(small, hint);
      setText(unseen, done[name] ? "done" : "");
    });
  }
}
