// A colour for each digest: the same digest has the same colour, and digests seen at one time are told apart.

const HUES = 11;

const held = new Map();
let before = new Map();

/**
 * Tells which digests there are now, by node; returns whether one has got its colour. A digest that only one node holds
 * and that has just changed is in motion: it has none until it is seen again.
 */
export function observe(nodes) {
  let coloured = false;
  const holders = new Map();
  for (const node of nodes) if (node.digest) holders.set(node.digest, (holders.get(node.digest) ?? 0) + 1);
  for (const digest of held.keys()) if (!holders.has(digest)) held.delete(digest);
  const taken = new Set(held.values());
  for (const node of nodes) {
    const digest = node.digest;
    if (!digest || held.has(digest)) continue;
    // Under load digests change all the time: a colour for each would only flicker.
    if (holders.get(digest) === 1 && nodes.length > 1 && before.get(node.name) !== digest) continue;
    let hue = Number.parseInt(digest.slice(0, 6), 16) % HUES;
    for (let tries = 0; taken.has(hue) && tries < HUES; tries += 1) hue = (hue + 5) % HUES;
    taken.add(hue);
    held.set(digest, hue);
    coloured = true;
  }
  before = new Map(nodes.map(node => [node.name, node.digest]));
  return coloured;
}

/** The class that carries the colour, from `page.css`; a digest without one is grey. */
export const hueClass = digest => held.has(digest) ? `hue-${held.get(digest)}` : "hue-none";

export const short = digest => digest ? digest.slice(0, 6) : "";
