// The keys that begin with a prefix: the first of them live, more on demand.

import { read } from "./api.js";
import { byId, el, keyed, setAttribute, setPieces, setText, show } from "./dom.js";
import { count, moment, pieces, plural, size, word } from "./format.js";
import { attempt } from "./notices.js";

const PAGE = 50;
/** Beyond this a longer prefix finds a key sooner than scrolling does. */
const MOST = 500;
/** Cells that a search looks through by itself, some ten thousand a request; whoever wants more asks for it. */
const MOST_LOOKED = 3_000_000;
/** A pause in typing that is taken for the end of a word. */
const PAUSE = 200;

/** Bytes into a place of the page, with what is no plain text marked as such. */
export function put(node, bytes, most) {
  const name = bytes ? `${word(bytes)} ${bytes.cut ?? ""}` : "";
  setPieces(node, name, () => [el("bdi", {}, ...pieces(bytes, most)
    .map(piece => piece.escape ? el("span", { class: "escape" }, piece.text) : piece.text))]);
}

export class Keys {
  #first = []; #more = []; #next = null; #firstNext = null; #choose; #told = false;
  /** Searches so far: one that is not the last is given up. */
  #search = 0; #looked = 0; #looking = false;
  prefix = "";
  model = null;
  selection = null;

  /** `search` is told when another prefix is meant, `choose` when a key is chosen. */
  constructor(search, choose) {
    this.#choose = choose;
    let pause = 0;
    byId("prefix").addEventListener("input", () => {
      clearTimeout(pause);
      pause = setTimeout(() => this.#mean(search), PAUSE);
    });
    byId("keys-next").addEventListener("click", () => this.#fetchMore());
  }

  #mean(search) {
    const prefix = byId("prefix").value;
    if (prefix === this.prefix) return;
    this.prefix = prefix;
    this.#search += 1;
    this.#first = this.#more = [];
    this.#next = this.#firstNext = null;
    this.#told = this.#looking = false;
    search(prefix);
    this.update(this.model, this.selection);
  }

  /** The first page, as the stream tells it. */
  set(message) {
    this.#first = message.keys;
    this.#firstNext = message.next;
    if (!this.#more.length && !this.#looking) this.#next = message.next;
    if (!this.#told) this.#look();
    this.#told = true;
  }

  /** A key was written from here: it may be one that only a search finds. */
  written() {
    if (this.#more.length || this.#firstNext !== null && this.#first.length < PAGE) this.#look();
  }

  /** Goes through the store until there is a page of keys: the stream looks at the first cells only. */
  async #look() {
    const search = this.#search += 1;
    const found = [];
    let next = this.#firstNext, looked = 0;
    this.#looking = true;
    while (next !== null && this.#first.length + found.length < PAGE && looked < MOST_LOOKED) {
      const { done, answer } = await this.#read(next);
      if (search !== this.#search) return;
      if (!done) break;
      found.push(...answer.keys);
      next = answer.next;
      looked += answer.scanned;
      if (found.length >= this.#more.length) this.#more = [...found];
      [this.#next, this.#looked] = [next, looked];
      this.update(this.model, this.selection);
    }
    [this.#more, this.#next, this.#looking] = [found, next, false];
    this.update(this.model, this.selection);
  }

  async #fetchMore() {
    const search = this.#search += 1;
    this.#looking = false;
    const { done, answer } = await this.#read(this.#next);
    if (!done || search !== this.#search) return;
    this.#more.push(...answer.keys);
    this.#next = answer.next;
    this.update(this.model, this.selection);
  }

  #read(after) {
    const query = new URLSearchParams({ prefix: this.prefix, after, limit: PAGE });
    return attempt(() => read(`keys?${query}`));
  }

  update(model, selection) {
    if (!model) return;
    [this.model, this.selection] = [model, selection];
    const rows = this.#rows();
    const node = model.status.nodes.find(node => node.local && node.state !== "stopped");
    setText(byId("keys-at"), node ? `${plural(node.keys, "key")} at ${node.name}` : "");
    show(byId("keys-scroll"), rows.length > 0);
    show(byId("keys-empty"), rows.length === 0);
    if (!rows.length) setText(byId("keys-empty"), this.#empty(model, node));
    keyed(byId("keys-rows"), rows, row => word(row.key), row => this.#make(row), (tr, row) => this.#fill(tr, row, selection));
    show(byId("keys-next"), this.#next !== null && rows.length < MOST && !this.#looking);
    setText(byId("keys-said"), this.#words(rows.length));
  }

  #words(shown) {
    if (this.#looking) return `${count(shown)} found, ${count(this.#looked)} cells looked through`;
    if (this.#next === null) return shown ? `${plural(shown, "key")}, all shown` : "";
    return shown < MOST ? `${count(shown)} shown` : `${count(shown)} shown: a longer beginning finds the rest`;
  }

  #rows() {
    if (!this.#more.length) return this.#first;
    const first = new Set(this.#first.map(row => word(row.key)));
    return [...this.#first, ...this.#more.filter(row => !first.has(word(row.key)))];
  }

  #empty(model, node) {
    if (!this.#told) return "Waiting for the first keys.";
    if (this.#next !== null || this.#looking) return "None found yet: there are more cells to look through.";
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
    if (row.value) put(value, row.value, 26);
    else setText(value, size(row.value_bytes));
    setAttribute(value, "title", row.value?.cut ? size(row.value_bytes) : null);
    setText(written, moment(row.time));
    setAttribute(written, "title", `timestamp ${row.timestamp}`);
    setText(by, row.origin);
    setText(expires, row.deadline ? moment(row.deadline) : "");
  }
}

