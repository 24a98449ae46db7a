// The ranges of two nodes as a map of 128 by 128 dots: lit where they differ, glowing for a moment where they have just
// become equal.

import { byId, setText } from "./dom.js";
import { count } from "./format.js";

const SIDE = 128, RANGES = SIDE * SIDE;
const GLOW = 900;
/** Between two pictures of the glow. */
const STEP = 60;
/** Below this many a dot alone would be overlooked. */
const FEW = 400;

export class RangeMap {
  #canvas = byId("map");
  #differs = new Uint8Array(RANGES);
  #equalSince = new Float64Array(RANGES);
  #pair = null; #known = null; #differing = 0; #drawing = false; #colours = null;
  #still = matchMedia("(prefers-reduced-motion: reduce)");

  constructor() {
    const repaint = () => { this.#colours = null; this.#schedule(); };
    new ResizeObserver(() => this.#schedule()).observe(this.#canvas);
    addEventListener("sapwood-theme", repaint);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  }

  /** The pair that is looked at; nothing is known of it until its ranges have come. */
  select(pair) {
    if (pair === this.#pair) return;
    this.#pair = pair;
    this.#known = null;
    this.#differing = 0;
    this.#differs.fill(0);
    this.#equalSince.fill(0);
    this.#tell();
    this.#schedule();
  }

  /** A message about the ranges of `pair`. */
  update(pair, message) {
    if (pair !== this.#pair) return;
    const bits = atob(message.bits);
    const now = performance.now();
    let differing = 0;
    for (let range = 0; range < RANGES; range += 1) {
      const differs = bits.charCodeAt(range >> 3) >> (range & 7) & 1;
      if (!differs && this.#differs[range]) this.#equalSince[range] = now;
      this.#differs[range] = differs;
      differing += differs;
    }
    this.#known = message.known;
    this.#differing = differing;
    this.#tell();
    this.#schedule();
  }

  #tell() {
    const words = this.#differing ? `${count(this.#differing)} of 16,384 ranges differ`
      : this.#known === "sync" ? "No range differs, by the last sync" : "No range differs";
    setText(byId("map-words"), this.#known ? words : "Nothing is known of their ranges yet.");
  }

  #schedule() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(now => {
      this.#drawing = false;
      if (this.#draw(now)) setTimeout(() => this.#schedule(), STEP);
    });
  }

  /** Whether something still glows. */
  #draw(now) {
    const canvas = this.#canvas;
    const pixels = Math.round(canvas.clientWidth * devicePixelRatio);
    if (!pixels) return false;
    // A whole number of pixels a dot, or there would be patterns that mean nothing; the browser scales the rest.
    const cell = Math.max(2, Math.round(pixels / SIDE));
    if (canvas.width !== cell * SIDE) canvas.width = canvas.height = cell * SIDE;
    const style = this.#colours ??= getComputedStyle(canvas);
    const context = canvas.getContext("2d");
    const grown = this.#differing && this.#differing < FEW ? 1.4 : 0.5;
    context.clearRect(0, 0, canvas.width, canvas.height);
    let glows = false;
    if (!this.#still.matches) {
      context.fillStyle = style.caretColor;
      for (let range = 0; range < RANGES; range += 1) {
        const age = now - this.#equalSince[range];
        if (!this.#equalSince[range] || age > GLOW || this.#differs[range]) continue;
        glows = true;
        context.globalAlpha = 1 - Math.max(0, age) / GLOW;
        square(context, range, cell, grown);
      }
    }
    context.globalAlpha = 1;
    context.fillStyle = style.color;
    for (let range = 0; range < RANGES; range += 1) if (this.#differs[range]) square(context, range, cell, grown);
    return glows;
  }
}

/** The dot of a range, larger than its place by `grown` places. */
function square(context, range, cell, grown) {
  const x = (range % SIDE) * cell, y = Math.floor(range / SIDE) * cell;
  const edge = cell * (grown > 1 ? grown - 0.7 : 0);
  context.fillRect(x - edge, y - edge, cell + 2 * edge, cell + 2 * edge);
}
