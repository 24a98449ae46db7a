// The keys that begin with a prefix: the first of them live, more on demand.

import { read } from "./api.js";
import { byId, el, keyed, setAttribute, setPieces, setText, show } from "./dom.js";
import { count, moment, pieces, plural, size, word } from "./format.js";
import { attempt } from "./notices.js";

const PAGE = 50;
/** Beyond this a longer prefix finds a key sooner than scrolling does. */
const MOST = 500;
/** A pause in typing that is taken for the end of a word. */
const PAUSE = 200;

/** Bytes into a place of the page, with what is no plain text marked as such. */
export function put(node, bytes, most) {
  const name = bytes ? `${word(bytes)} ${bytes.cut ?? ""}` : "";
  setPieces(node, name, () => [el("bdi", {}, ...pieces(bytes, most)
    .map(piece => piece.escape ? el("span", { class: "escape" }, piece.text) : piece.text))]);
}

export class Keys {
  #first = []; #more = []; #next = null; #firstNext = null; #choose; #said = false;
  prefix = "";

  /** `search` is told when another prefix is meant, `choose` when a key is chosen. */
  constructor(search, choose) {
    this.#choose = choose;
    let pause = 0;
    byId("prefix").addEventListener("input", () => {
      clearTimeout(pause);
      pause = setTimeout(() => this.#search(search), PAUSE);
    });
    byId("keys-next").addEventListener("click", () => this.#fetchMore());
  }

  #search(search) {
    const prefix = byId("prefix").value;
    if (prefix === this.prefix) return;
    this.prefix = prefix;
    this.#more = [];
    this.#next = null;
    search(prefix);
  }

  /** The first page, as the stream tells it. */
  set(message) {
    this.#first = message.keys;
    this.#firstNext = message.next;
    this.#said = true;
    if (!this.#more.length) this.#next = message.next;
  }

  async #fetchMore() {
    const prefix = this.prefix;
    const query = new URLSearchParams({ prefix, after: this.#next, limit: PAGE });
    const { done, answer } = await attempt(() => read(`keys?${query}`));
    if (!done || prefix !== this.prefix) return;
    this.#more.push(...answer.keys);
    this.#next = answer.next;
    this.update(this.model, this.selection);
  }

  update(model, selection) {
    [this.model, this.selection] = [model, selection];
    const rows = this.#rows();
    const node = model.status.nodes.find(node => node.local && node.state !== "stopped");
    setText(byId("keys-at"), node ? `${plural(node.keys, "key")} at ${node.name}` : "");
    show(byId("keys-scroll"), rows.length > 0);
    show(byId("keys-empty"), rows.length === 0);
    if (!rows.length) setText(byId("keys-empty"), this.#empty(model, node));
    keyed(byId("keys-rows"), rows, row => word(row.key), row => this.#make(row), (tr, row) => this.#fill(tr, row, selection));
    const goesOn = this.#next !== null && rows.length < MOST;
    show(byId("keys-next"), goesOn);
    setText(byId("keys-said"), goesOn ? `${count(rows.length)} shown`
      : this.#next !== null ? `${count(rows.length)} shown: a longer beginning finds the rest` : rows.length ? `${plural(rows.length, "key")}, all shown` : "");
  }

  #rows() {
    if (!this.#more.length) return this.#first;
    const first = new Set(this.#first.map(row => word(row.key)));
    return [...this.#first, ...this.#more.filter(row => !first.has(word(row.key)))];
  }

  #empty(model, node) {
    if (!this.#said) return "Waiting for the first keys.";
    if (this.#firstNext !== null) return "None found yet: there are more keys to look through.";
    if (this.prefix) return "No key begins with this.";
    if (model.status.writes) return "No key yet. Write one: it appears here and on every other node.";
    return `No key yet. Try: sapwood set hello world${node?.client ? ` --node ${node.client}` : ""}`;
  }

  #make(row) {
    const name = el("button", { type: "button", class: "name mono" });
    put(name, row.key, 60);
    if (row.key.cut) {
      name.disabled = true;
      name.title = `${count(row.key.bytes)} bytes: too long to be looked up from here`;
    } else {
      name.addEventListener("click", () => this.#choose(row.key));
    }
    const tr = el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "mono value" }), el("td", { class: "mono" }),
      el("td", { class: "wide" }), el("td", { class: "wide mono" }));
    tr.name_ = name;
    return tr;
  }

  #fill(tr, row, selection) {
    const chosen = selection.key && word(selection.key) === word(row.key);
    setAttribute(tr, "class", chosen ? "chosen" : null);
    setAttribute(tr.name_, "aria-pressed", !!chosen);
    const [, value, written, by, expires] = tr.cells;
    setAttribute(value, "class", `mono value ${row.kind}`);
    if (row.value) put(value, row.value, 36);
    else setText(value, size(row.value_bytes));
    setAttribute(value, "title", row.value?.cut ? size(row.value_bytes) : null);
    setText(written, moment(row.time));
    setAttribute(written, "title", `stamp ${row.stamp}`);
    setText(by, row.origin);
    setText(expires, row.deadline ? moment(row.deadline) : "");
  }
}

