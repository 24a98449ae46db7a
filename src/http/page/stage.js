// What can be done to nodes and links: cutting and mending, and in a demonstration stopping, starting and adding nodes.

import { act } from "./api.js";
import { byId, button, el, keyed, setText, show } from "./dom.js";
import { attempt } from "./notices.js";

export class Stage {
  #done;

  /** `done(what, ...)` is told of each thing that was done: "isolate", "cut", "mend", "stop", "start", "add", "load". */
  constructor(done) {
    this.#done = done;
    const form = byId("load");
    form.addEventListener("submit", async event => {
      event.preventDefault();
      const go = form.querySelector("button");
      const { count, prefix, node } = form.elements;
      go.disabled = true;
      const body = { node: node.value, prefix: prefix.value, count: count.valueAsNumber };
      const { done } = await attempt(() => act("demo/load", body));
      go.disabled = false;
      if (done) this.#done("load");
    });
  }

  #action(label, path, body, ...what) {
    return { label, button: () => button(label, async () => {
      const { done } = await attempt(() => act(path, body));
      if (done) this.#done(...what);
    }) };
  }

  /** The buttons of a node. */
  ofNode(node, model) {
    const { demo, faults } = model.status;
    if (!node.local) return [];
    if (node.state === "stopped") return demo ? [this.#action("Start empty", "demo/start", { node: node.name }, "start")] : [];
    const actions = [];
    if (faults) {
      const views = viewsOf(node.name, model);
      const cut = views.filter(link => link.state === "cut").length;
      if (cut < views.length) {
        actions.push(this.#action("Isolate", "cut", { node: node.name, peer: "*" }, "isolate", node.name));
      }
      if (cut) actions.push(this.#action("Mend", "mend", { node: node.name, peer: "*" }, "mend"));
    }
    if (demo) actions.push(this.#action("Stop", "demo/stop", { node: node.name }, "stop"));
    return actions;
  }

  /** The buttons of a link. A fault at one end keeps both apart, so one end is cut, and every end that is cut is mended. */
  ofLink(pair, model) {
    if (!model.status.faults) return [];
    const own = pair.views.filter(view => !view.reported && model.nodes.get(view.from)?.local);
    if (!own.length) return [];
    const cut = own.filter(view => view.state === "cut");
    if (!cut.length) {
      if (pair.kind === "gone") return [];
      return [this.#action(`Cut ${pair.a} – ${pair.b}`, "cut", { node: own[0].from, peer: own[0].to }, "cut", own[0].from)];
    }
    return cut.map(view => {
      const all = isIsolated(view.from, model);
      return this.#action(all ? `Mend ${view.from}` : `Mend ${pair.a} – ${pair.b}`, "mend",
        { node: view.from, peer: all ? "*" : view.to }, "mend");
    });
  }

  /** The buttons of the chosen node again, by the drawing in which it was chosen. */
  updateChosen(model, selection) {
    const node = model.nodes.get(selection.node) ?? model.status.nodes[0];
    const actions = node ? this.ofNode(node, model) : [];
    show(byId("node-actions"), actions.length > 0);
    if (!actions.length) return;
    setText(byId("chosen-node"), `Node ${node.name}`);
    keyed(byId("chosen-actions"), actions, action => `${node.name} ${action.label}`, action => action.button());
  }

  /** What concerns the whole cluster. */
  update(model) {
    const { demo, faults, nodes, links } = model.status;
    const cutting = [...new Set(links.filter(link => link.state === "cut" && !link.reported).map(link => link.from))];
    const actions = [];
    if (faults && cutting.length) {
      actions.push({ label: `Mend all ${cutting}`, button: () => button("Mend all", async () => {
        const results = await Promise.all(cutting.map(node => attempt(() => act("mend", { node, peer: "*" }))));
        if (results.some(result => result.done)) this.#done("mend");
      }, { class: "main" }) });
    }
    if (demo) actions.push(this.#action("Add a node", "demo/add", {}, "add"));
    keyed(byId("cluster-actions"), actions, action => action.label, action => action.button());
    show(byId("faults-off"), !faults);
    show(byId("load"), demo);
    if (demo) {
      keyed(byId("load").elements.node, nodes.filter(node => node.local && node.state !== "stopped"), node => node.name,
        node => el("option", { value: node.name }, node.name));
    }
  }
}

/** How a node of this process sees those that it could be linked to. */
const viewsOf = (name, model) => model.status.links
  .filter(link => link.from === name && !link.reported && model.nodes.has(link.to) && link.state !== "gone");

/** A node that was cut off as a whole is mended as a whole. */
function isIsolated(name, model) {
  const views = viewsOf(name, model);
  return views.length > 0 && views.every(view => view.state === "cut");
}
