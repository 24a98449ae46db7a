// What could not be done, in the server's words, until somebody has read it.

import { byId, el } from "./dom.js";

const MOST = 4;

/** Shows a problem; the same one again only moves to the end. */
export function notice(title, detail = "") {
  const list = byId("notices");
  for (const old of [...list.children]) {
    if (old.dataset.said === `${title}\n${detail}`) old.remove();
  }
  while (list.children.length >= MOST) list.firstElementChild.remove();
  const close = el("button", { type: "button", class: "plain", "aria-label": "Dismiss" }, "×");
  const card = el("div", { class: "notice" }, el("div", {}, el("strong", {}, title), el("p", {}, detail)), close);
  card.dataset.said = `${title}\n${detail}`;
  close.addEventListener("click", () => card.remove());
  list.append(card);
}

/** Does something and shows why if it was not done; resolves to whether it was, and what it answered. */
export async function attempt(what) {
  try {
    return { done: true, answer: await what() };
  } catch (problem) {
    notice(problem.title ?? "Something went wrong in this page", problem.message);
    return { done: false };
  }
}

/** What went wrong in the page itself is shown too, not only written where nobody looks. */
export function watchErrors() {
  addEventListener("error", event => notice("Something went wrong in this page", event.message));
  addEventListener("unhandledrejection", event => notice("Something went wrong in this page", String(event.reason)));
}
