// Requests to the server that this page is from, and the problems it answers with.

/** A request that was not done: the server's own words, or that it could not be reached. */
export class Problem extends Error {
  constructor(title, detail, status) {
    super(detail || title);
    this.title = title;
    this.status = status;
  }
}

const meta = document.querySelector('meta[name="sapwood-token"]');

async function ask(path, options) {
  let response;
  try {
    response = await fetch(`api/${path}`, { cache: "no-store", ...options });
  } catch {
    throw new Problem("No answer", "The server cannot be reached. It may be stopped, or restarting.", 0);
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  const said = await response.json().catch(() => ({}));
  throw new Problem(said.title || `The server answered ${response.status}`, said.detail || "", response.status);
}

export const read = path => ask(path);

/** Changes something. The token shows that it is this page that asks. */
export async function act(path, body) {
  const send = () => ask(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-sapwood-token": meta.content },
    body: JSON.stringify(body),
  });
  try {
    return await send();
  } catch (problem) {
    // A restarted server has another token.
    if (problem.status === 403 && await renewToken()) return send();
    throw problem;
  }
}

async function renewToken() {
  try {
    const text = await (await fetch("./", { cache: "no-store" })).text();
    const token = text.match(/name="sapwood-token" content="([^"]*)"/)?.[1];
    if (!token || token === meta.content) return false;
    meta.content = token;
    return true;
  } catch {
    return false;
  }
}
