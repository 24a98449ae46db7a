// The cluster as a drawing: nodes on a circle in the colour of what they hold, links by state. A small cluster has an element
// a link; a large one has one path a state, however many links there are.

import { byId, el, keyed, setAttribute, setText, show, svg } from "./dom.js";
import { LINK_STATES } from "./cluster.js";
import { compact, count } from "./format.js";
import { hueClass, short } from "./hues.js";

const WIDTH = 480, HEIGHT = 384;
/** Up to here links have labels and are chosen by a click; beyond it there is no room for that. */
const MOST_IN_DETAIL = 12;
/** Up to here all links are drawn; beyond it only those of this process and those that are not linked. */
const MOST_ALL_LINKS = 24;
/** Up to here nodes have names. */
const MOST_NAMES = 72;

export class Drawing {
  #links = svg("g", { class: "lines" });
  #nodes = svg("g");
  #labels = svg("g", { class: "labels", "aria-hidden": "true" });
  #choose;

  /** `choose` is told `{ pair }` or `{ node }` when one is clicked. */
  constructor(choose) {
    this.#choose = choose;
    byId("drawing").append(this.#links, this.#labels, this.#nodes);
  }

  update(model, selection) {
    const nodes = model.status.nodes;
    const places = circle(nodes);
    const detailed = nodes.length <= MOST_IN_DETAIL;
    setAttribute(byId("drawing"), "class", detailed ? "detailed" : "dense");
    const pairs = [...model.pairs.values()].filter(pair => places.has(pair.a) && places.has(pair.b));
    if (detailed) this.#drawEach(pairs, places, selection);
    else this.#drawByState(pairs, places, nodes.length);
    this.#drawNodes(nodes, places, selection, detailed);
    const hidden = nodes.length > MOST_ALL_LINKS;
    show(byId("drawing-note"), hidden);
    if (hidden) {
      setText(byId("drawing-note"),
        `${count(model.pairs.size)} links. Of those between other nodes only what is not linked is drawn.`);
    }
    legend(model);
  }

  #drawEach(pairs, places, selection) {
    keyed(this.#links, pairs, pair => pair.name, pair => {
      const group = svg("g", {}, svg("line", { class: "hit" }), svg("line", { class: "line", pathLength: 100 }));
      group.addEventListener("click", () => this.#choose({ pair: pair.name }));
      return group;
    }, (group, pair) => {
      const [from, to] = [places.get(pair.a), places.get(pair.b)];
      setAttribute(group, "class", `one state-${pair.kind}${selection.pair === pair.name ? " chosen" : ""}`);
      for (const line of group.children) {
        setAttribute(line, "x1", from.x);
        setAttribute(line, "y1", from.y);
        setAttribute(line, "x2", to.x);
        setAttribute(line, "y2", to.y);
      }
    });
    const told = pairs.filter(pair => pair.kind !== "linked");
    keyed(this.#labels, told, pair => pair.name, () => svg("text", { class: "label" }), (text, pair) => {
      const [from, to] = [places.get(pair.a), places.get(pair.b)];
      // Off the middle where many lines cross there.
      const part = pairs.length > 3 && Math.hypot(from.x + to.x - WIDTH, from.y + to.y - HEIGHT) < 60 ? 0.36 : 0.5;
      setAttribute(text, "x", round(from.x + (to.x - from.x) * part));
      setAttribute(text, "y", round(from.y + (to.y - from.y) * part + 4));
      setAttribute(text, "class", `label state-${pair.kind}`);
      const differs = pair.kind === "healing" && pair.differing ? ` ${count(pair.differing)}` : "";
      setText(text, `${LINK_STATES[pair.kind].mark} ${pair.state}${differs}`);
    });
  }

  #drawByState(pairs, places, nodes) {
    const paths = new Map();
    for (const pair of pairs) {
      if (nodes > MOST_ALL_LINKS && !pair.local && pair.kind === "linked") continue;
      const [from, to] = [places.get(pair.a), places.get(pair.b)];
      const path = paths.get(pair.kind) ?? [];
      path.push(`M${from.x} ${from.y}L${to.x} ${to.y}`);
      paths.set(pair.kind, path);
    }
    keyed(this.#links, [...paths], ([kind]) => `all ${kind}`, ([kind]) => svg("path", { class: `line state-${kind}` }),
      (path, [, parts]) => setAttribute(path, "d", parts.join("")));
    keyed(this.#labels, [], () => "", () => null);
  }

  #drawNodes(nodes, places, selection, detailed) {
    const radius = detailed ? (nodes.length > 7 ? 24 : 31) : Math.max(4, Math.min(15, 420 / nodes.length));
    keyed(this.#nodes, nodes, node => node.name, node => {
      const group = svg("g", { role: "button", tabindex: "0" }, svg("title"), svg("circle", { class: "halo" }),
        svg("circle", { class: "body" }), svg("text", { class: "name" }), svg("text", { class: "keys" }), svg("text", { class: "digest" }));
      const choose = () => this.#choose({ node: node.name });
      group.addEventListener("click", choose);
      group.addEventListener("keydown", event => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        choose();
      });
      return group;
    }, (group, node) => {
      const place = places.get(node.name);
      const [title, halo, body, name, keys, digest] = group.children;
      const chosen = selection.node === node.name;
      setAttribute(group, "class", `node ${node.state} ${hueClass(node.digest)}${chosen ? " chosen" : ""}`);
      setAttribute(group, "transform", `translate(${place.x} ${place.y})`);
      setAttribute(group, "aria-pressed", chosen);
      const words = `${node.name}, ${node.state}, ${count(node.keys)} keys${node.digest ? `, digest ${short(node.digest)}` : ""}`;
      setAttribute(group, "aria-label", words);
      setText(title, words);
      setAttribute(halo, "r", radius + 6);
      setAttribute(body, "r", radius);
      const named = detailed || nodes.length <= MOST_NAMES;
      const below = detailed && place.angle > 0.1 && place.angle < Math.PI - 0.1;
      setText(name, named ? clip(node.name, detailed ? 8 : 12) : "");
      setText(keys, detailed ? (node.state === "ready" ? compact(node.keys) : node.state) : "");
      setText(digest, detailed ? short(node.digest) : "");
      if (detailed) {
        setAttribute(name, "class", node.name.length > 4 ? "name long" : "name");
        setAttribute(name, "transform", null);
        setAttribute(name, "x", null);
        setAttribute(name, "y", -2);
        setAttribute(keys, "y", 13);
        setAttribute(digest, "y", below ? radius + 22 : -radius - 12);
      } else {
        const outside = radius + 5, turned = Math.abs(place.angle) > Math.PI / 2;
        setAttribute(name, "transform", `rotate(${round(place.angle * 180 / Math.PI + (turned ? 180 : 0))})`);
        setAttribute(name, "x", turned ? -outside : outside);
        setAttribute(name, "y", 3);
        setAttribute(name, "class", turned ? "name end" : "name");
      }
    });
  }
}

/** Where each node is, the first at the top, clockwise. */
function circle(nodes) {
  const detailed = nodes.length <= MOST_IN_DETAIL;
  // Three on a circle leave more room below than above; two stand side by side.
  const three = nodes.length === 3;
  const radius = nodes.length === 1 ? 0 : detailed ? (three ? 158 : 134) : 132;
  const drop = three ? 40 : 0;
  const first = nodes.length === 2 ? Math.PI : -Math.PI / 2;
  return new Map(nodes.map((node, i) => {
    const turn = i / nodes.length * 2 * Math.PI + first;
    const angle = turn > Math.PI ? turn - 2 * Math.PI : turn;
    const wide = detailed ? 1.16 : 1;
    return [node.name, {
      x: round(WIDTH / 2 + radius * wide * Math.cos(angle)), y: round(HEIGHT / 2 + drop + radius * Math.sin(angle)), angle,
    }];
  }));
}

const round = n => Math.round(n * 10) / 10;

const clip = (name, most) => name.length <= most ? name : `${name.slice(0, most - 1)}…`;

function legend(model) {
  const kinds = new Set([...model.pairs.values()].map(pair => pair.kind));
  const shown = Object.keys(LINK_STATES).filter(kind => kinds.has(kind));
  keyed(byId("legend"), shown, kind => kind, kind => el("li", { class: `state-${kind}`, title: LINK_STATES[kind].means },
    svg("svg", { viewBox: "0 0 34 8", class: "sample", "aria-hidden": "true" },
      svg("line", { class: "line", x1: 0, y1: 4, x2: 34, y2: 4, pathLength: 24 })),
    el("span", {}, kind)));
}
