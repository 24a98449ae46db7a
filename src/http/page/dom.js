// Elements that are made once and then changed in place. What comes from data only ever goes in as text: nothing here, and
// nothing anywhere in the page, parses HTML.

const SVG = "http://www.w3.org/2000/svg";

export const byId = id => document.getElementById(id);

/** An element with attributes and children; strings become text. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for a drawing. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Sets the text unless it is there already: an unchanged text costs no layout and is not read out again. */
export function setText(node, text) {
  text = String(text);
  if (node.text_ === text) return;
  node.text_ = text;
  node.holds_ = undefined;
  node.textContent = text;
}

/** Fills an element with pieces of text and elements, unless it holds what has this name already. */
export function setPieces(node, name, pieces) {
  if (node.holds_ === name) return;
  node.holds_ = name;
  node.text_ = undefined;
  node.replaceChildren(...pieces());
}

/** Sets an attribute unless it is there already; null removes it. */
export function setAttribute(node, name, value) {
  if (value === null || value === undefined) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, value);
  }
}

export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

/**
 * Brings `parent` to one child an item, in the order of the items. A child stays the same element for as long as its key
 * is there, so focus, selection and scroll positions survive.
 */
export function keyed(parent, items, keyOf, make, update) {
  const before = parent.byKey ?? new Map();
  const after = new Map();
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    if (after.has(key)) continue;
    let child = before.get(key);
    if (!child) child = make(item);
    after.set(key, child);
    update?.(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const [key, child] of before) if (after.get(key) !== child) child.remove();
  parent.byKey = after;
}

/** Rows of a definition list, by their term; a null value leaves its row out. */
export function figures(list, entries) {
  keyed(list, entries.filter(entry => entry[1] !== null && entry[1] !== undefined), entry => entry[0],
    ([term]) => el("div", {}, el("dt", {}, term), el("dd")),
    (row, [, value, title]) => {
      setText(row.lastElementChild, value);
      setAttribute(row, "title", title ?? null);
    });
}

/** A button that calls `act` and cannot be pressed again before that has ended. */
export function button(label, act, attributes = {}) {
  const node = el("button", { type: "button", ...attributes }, label);
  node.addEventListener("click", async () => {
    node.disabled = true;
    try { await act(); } finally { node.disabled = false; }
  });
  return node;
}
