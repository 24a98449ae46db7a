// The links as rows, and one of them in full.

import { byId, el, figures, keyed, setAttribute, setText, show } from "./dom.js";
import { isLive, LINK_STATES, rowsOf } from "./cluster.js";
import { ago, count, NONE, plural, size, span } from "./format.js";

const MOST = 60;

export class Links {
  #choose; #actions;

  /** `actions(pair, model)` are the buttons of a link. */
  constructor(actions, choose) {
    this.#actions = actions;
    this.#choose = choose;
  }

  update(model, selection, now) {
    const { rows, left, total } = rowsOf(model, MOST);
    const since = now - model.at;
    show(byId("links-scroll"), rows.length > 0);
    show(byId("links-empty"), total === 0);
    if (total === 0) setText(byId("links-empty"), alone(model));
    show(byId("links-more"), left > 0);
    if (left > 0) setText(byId("links-more"), `${plural(left, "link")} between other nodes not listed.`);
    keyed(byId("links-rows"), rows, pair => pair.name, pair => this.#row(pair), (row, pair) => {
      setAttribute(row, "class", `state-${pair.kind}${selection.pair === pair.name ? " chosen" : ""}`);
      setAttribute(row.button_, "aria-pressed", selection.pair === pair.name);
      const [, state, lag, queue, differ, verified] = row.cells;
      setText(state, `${LINK_STATES[pair.kind].mark} ${pair.state}`);
      // Without a link nothing waits for it, and nobody compares.
      const live = pair.known && isLive(pair);
      setText(lag, live ? span(pair.lag) : NONE);
      setText(queue, live ? size(pair.queued) : NONE);
      setText(differ, live ? count(pair.differing) : NONE);
      setText(verified, pair.verified === null ? NONE : ago(pair.verified + since));
    });
    const pair = model.pairs.get(selection.pair);
    show(byId("link"), !!pair);
    if (pair) this.#fill(pair, model, since);
  }

  #row(pair) {
    const button = el("button", { type: "button", class: "name" }, `${pair.a} – ${pair.b}`);
    button.addEventListener("click", () => this.#choose({ pair: pair.name }));
    const row = el("tr", {}, el("th", { scope: "row" }, button), el("td", { class: "state" }), el("td", { class: "number" }),
      el("td", { class: "number wide" }), el("td", { class: "number" }), el("td", { class: "number wide" }));
    row.button_ = button;
    return row;
  }

  #fill(pair, model, since) {
    setText(byId("link-title"), `${pair.a} – ${pair.b}`);
    keyed(byId("link-views"), pair.views, view => view.from, () => el("li"), (row, view) => {
      const why = view.reason ? `: ${view.reason}` : "";
      const how = view.since_ms === undefined ? "" : ` for ${span(view.since_ms + since)}`;
      setText(row, `${view.from} sees ${view.to} ${view.state}${how}${why}`);
    });
    keyed(byId("link-actions"), this.#actions(pair, model), action => action.label, action => action.button());
    const heal = pair.heal;
    const live = pair.known && isLive(pair);
    const done = heal ? heal.cells_in + heal.cells_out : 0;
    show(byId("heal-bar"), !!heal);
    // While ranges are still compared nobody knows how many cells there are.
    const counted = heal && heal.cells_left > 0;
    if (counted) byId("heal-bar").value = done / (done + heal.cells_left);
    else byId("heal-bar").removeAttribute("value");
    const left = counted && done ? `, about ${size((heal.bytes_in + heal.bytes_out) / done * heal.cells_left)}` : "";
    const soon = Number.isFinite(heal?.time_left_ms) ? `, ${span(heal.time_left_ms)} to go` : "";
    figures(byId("link-figures"), [
      ["To go", heal ? (counted ? `${plural(heal.cells_left, "cell")}${left}` : "not counted yet") : null, "an estimate"],
      ["Cells in / out", heal ? `${count(heal.cells_in)} / ${count(heal.cells_out)}` : null],
      ["Bytes in / out", heal ? `${size(heal.bytes_in)} / ${size(heal.bytes_out)}` : null],
      ["Time", heal ? `${span(heal.took_ms)}${soon}` : null],
      ["Lag", live ? span(pair.lag) : null, "age of the oldest write that is not acknowledged"],
      ["Queue", live ? size(pair.queued) : null, "bytes of pushes that wait to be sent"],
      ["Verified", pair.known ? verified(pair, since) : null, "when both were last known to hold the same"],
      ...(live ? traffic(pair) : []),
    ]);
  }
}

const verified = (pair, since) => pair.verified === null ? "not yet" : ago(pair.verified + since);

/** Bytes over the present link: of two ends in this process each says what it has sent. */
function traffic(pair) {
  const own = pair.views.filter(view => !view.reported);
  if (own.length > 1) return own.map(view => [`${view.from} sent`, size(view.sent_bytes), "over the present link"]);
  return own.flatMap(view => [
    [`${view.from} sent`, size(view.sent_bytes), "over the present link"],
    [`${view.from} received`, size(view.received_bytes), "over the present link"],
  ]);
}

function alone(model) {
  const node = model.status.nodes[0];
  const join = node?.peer ? ` --join ${node.peer}` : " --join and the address of this one's peer port";
  return `No peer yet. Start another node with${join}.`;
}

/** The link to look at while nobody has chosen one: what differs most, then what is not linked, then the first. */
export function mostTelling(model, present) {
  const weight = pair => (pair.kind === "healing" ? 1e6 : 0) + pair.differing * 10 + (pair.kind === "linked" ? 0 : 50);
  let best = model.pairs.get(present);
  for (const pair of model.pairs.values()) {
    // Of links between others only the state is known.
    if (!pair.known) continue;
    if (!best || weight(pair) > weight(best) + 5) best = pair;
  }
  return best?.name;
}
