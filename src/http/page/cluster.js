// What a status says, put in the terms that the page shows: pairs instead of two views of each link, who holds the same, and
// who can reach whom. Pure: nothing here touches the document.

/** States of links, from the best to the worst; `dash` and `mark` tell them apart without their colours. */
export const LINK_STATES = {
  linked: { mark: "●", means: "writes arrive as they are made" },
  joining: { mark: "◔", means: "the first exchange is under way or waits for its turn" },
  healing: { mark: "⇄", means: "the two exchange what differs" },
  gone: { mark: "○", means: "it left in order" },
  lapsed: { mark: "◌", means: "away for too long, or forgotten: not waited for until it is heard again" },
  down: { mark: "✕", means: "not reachable, being dialled" },
  cut: { mark: "╫", means: "cut off on purpose" },
  refused: { mark: "!", means: "one of the two refuses the other" },
};
const RANK = Object.fromEntries(Object.keys(LINK_STATES).map((state, rank) => [state, rank]));
const LIVE = new Set(["linked", "joining", "healing"]);

/** The class that a state is drawn as: the five ways to be refused look alike, and are told apart by their words. */
export const kindOf = state => state in RANK ? state : "refused";

export const isLive = pair => LIVE.has(pair.kind);

/** The name of a pair, whichever way round. */
export const pairName = (a, b) => a < b ? `${a}\n${b}` : `${b}\n${a}`;

/** Everything that is derived from one status, which was received at `at`. */
export function derive(status, at) {
  const nodes = new Map(status.nodes.map(node => [node.name, node]));
  const pairs = pairsOf(status.links, nodes);
  const groups = groupsOf(status.nodes);
  return { status, at, nodes, pairs, groups, verdict: verdictOf(status.nodes, pairs, groups) };
}

function pairsOf(links, nodes) {
  const pairs = new Map();
  for (const link of links) {
    // An address that nobody answered at has no name yet.
    if (!link.to) continue;
    const name = pairName(link.from, link.to);
    let pair = pairs.get(name);
    if (!pair) {
      const [a, b] = name.split("\n");
      pair = { name, a, b, views: [], known: null, state: "linked", kind: "linked", differing: 0, lag: 0, queued: 0,
        verified: null, heal: null, local: !!(nodes.get(a)?.local || nodes.get(b)?.local) };
      pairs.set(name, pair);
    }
    pair.views.push(link);
  }
  for (const pair of pairs.values()) summarize(pair);
  return pairs;
}

/** What a node of this process sees itself counts before what was heard of from others. */
function summarize(pair) {
  const own = pair.views.filter(view => !view.reported);
  const views = own.length ? own : pair.views;
  pair.known = own.length > 0;
  for (const view of views) {
    const kind = kindOf(view.state);
    if (RANK[kind] >= RANK[pair.kind]) [pair.kind, pair.state] = [kind, view.state];
    pair.differing = Math.max(pair.differing, view.ranges_differing ?? 0);
    pair.lag = Math.max(pair.lag, view.lag_ms ?? 0);
    pair.queued += view.queued_bytes ?? 0;
    if (view.verified_ms !== null && view.verified_ms !== undefined) {
      pair.verified = Math.min(pair.verified ?? Infinity, view.verified_ms);
    }
    if (view.heal && (!pair.heal || view.heal.cells_left > pair.heal.cells_left)) pair.heal = view.heal;
  }
}

/** Nodes by digest: those that hold the same, the largest group first. */
function groupsOf(nodes) {
  const groups = new Map();
  for (const node of nodes) {
    if (!node.digest || !isUp(node)) continue;
    if (!groups.has(node.digest)) groups.set(node.digest, []);
    groups.get(node.digest).push(node.name);
  }
  return groups;
}

export const isUp = node => node.state !== "stopped" && node.state !== "unknown";

/** Sets of nodes that reach each other, be it by way of others. */
function islands(nodes, pairs) {
  const root = new Map(nodes.map(node => [node.name, node.name]));
  const find = name => {
    let at = name;
    for (let up = root.get(at); up !== at; up = root.get(at)) {
      root.set(at, root.get(up));
      at = up;
    }
    return at;
  };
  for (const pair of pairs.values()) {
    if (LIVE.has(pair.kind) && root.has(pair.a) && root.has(pair.b)) root.set(find(pair.a), find(pair.b));
  }
  const sets = new Map();
  for (const node of nodes) {
    const set = sets.get(find(node.name));
    if (set) set.push(node.name);
    else sets.set(find(node.name), [node.name]);
  }
  return [...sets.values()].sort((a, b) => b.length - a.length);
}

/** One sentence on the whole cluster. */
function verdictOf(all, pairs, groups) {
  const up = all.filter(isUp);
  const running = new Set(up.map(node => node.name));
  const sets = islands(up, pairs);
  const among = [...pairs.values()].filter(pair => running.has(pair.a) && running.has(pair.b));
  const differing = among.reduce((most, pair) => Math.max(most, pair.differing), 0);
  const equal = groups.size === 1;
  const verdict = (tone, head, more = "") =>
    ({ tone, head, more, equal, apart: sets.length > 1, sets, differing });
  const also = [["stopped", "stopped"], ["unknown", "not heard of"]].flatMap(([state, words]) => {
    const there = all.filter(node => node.state === state).map(node => node.name);
    return there.length ? [`${words}: ${brief(there)}`] : [];
  });
  if (up.length === 0) return verdict("bad", "No node runs", "");
  if (up.length === 1) return verdict(also.length ? "bad" : "calm", `${up[0].name} is alone`, also[0] ?? "no peer has linked yet");
  if (sets.length > 1) {
    also.unshift(equal ? "and still hold the same" : "and hold different states");
    return verdict("bad", `Apart: ${sets.slice(0, 4).map(set => brief(set)).join(" | ")}${sets.length > 4 ? " | …" : ""}`, also.join("; "));
  }
  const cut = among.filter(pair => !LIVE.has(pair.kind)).length;
  if (cut) also.unshift(`${cut} of ${among.length.toLocaleString("en")} links not there, others relay`);
  if (equal) return verdict("good", up.length === 2 ? "Both nodes hold the same" : `All ${up.length} nodes hold the same`, also.join("; "));
  if (among.some(pair => pair.kind === "healing" || pair.kind === "joining")) {
    also.unshift(differing ? `${differing.toLocaleString("en")} of 16,384 ranges differ` : "exchanging what differs");
    return verdict("busy", "Healing", also.join("; "));
  }
  return verdict("busy", "Writes are on their way", also.join("; "));
}

const brief = set => set.length <= 4 ? set.join(", ") : `${set.slice(0, 3).join(", ")} + ${set.length - 3}`;

/** The pairs worth a row: all of a small cluster; of a large one those of this process and those not linked. */
export function rowsOf(model, most) {
  const all = [...model.pairs.values()];
  const worth = all.length <= most ? all : all.filter(pair => pair.local || pair.kind !== "linked");
  worth.sort((x, y) => y.local - x.local || (x.a < y.a ? -1 : x.a > y.a ? 1 : x.b < y.b ? -1 : 1));
  if (worth.length > most) worth.sort((x, y) => y.local - x.local || RANK[y.kind] - RANK[x.kind]);
  return { rows: worth.slice(0, most), left: all.length - Math.min(worth.length, most), total: all.length };
}
