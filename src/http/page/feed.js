// The one stream of events that the page lives by. It says when it is open; while it is not, it tries again.
//
//   off --open--> connecting --open--> live
//                     ^                  |
//                     +--- after a wait -+-- an error, or nothing heard for too long
//
// While nobody sees the page it is closed: then it costs the server nothing, and leaves one of the few connections that a
// browser allows for each server to the tabs that are seen.

const FIRST_WAIT = 500, LONGEST_WAIT = 8000;
/** The server shows every 15 s that it is there. */
const SILENCE = 40_000;
/** A glance at another window is not worth a new connection. */
const UNSEEN = 20_000;

export class Feed {
  #handlers; #changed; #query = ""; #source = null; #timer = 0; #wait = FIRST_WAIT; #heard = 0; #alive = false;
  #lastId = null;
  state = "off";
  since = Date.now();
  retryAt = 0;

  /** `handlers` by the events' names; `changed` is told when the state of the connection has changed. */
  constructor(handlers, changed) {
    this.#handlers = handlers;
    this.#changed = changed;
    let unseen = 0;
    document.addEventListener("visibilitychange", () => {
      clearTimeout(unseen);
      if (document.hidden) unseen = setTimeout(() => this.#pause(), UNSEEN);
      else if (this.state === "paused") this.retry();
    });
    setInterval(() => {
      if (this.state === "live" && this.#alive && Date.now() - this.#heard > SILENCE) this.#failed();
    }, 5000);
  }

  /** What the stream is to carry beside the status; a change opens it anew. */
  select(parameters) {
    const query = new URLSearchParams(parameters).toString();
    if (query === this.#query && this.#source) return;
    this.#query = query;
    if (this.state !== "paused") this.#open();
  }

  /** Tries now instead of later. */
  retry() {
    this.#wait = FIRST_WAIT;
    this.#open();
  }

  #open() {
    this.#close();
    const after = this.#lastId === null ? "" : `&after=${this.#lastId}`;
    const source = new EventSource(`api/stream?${this.#query}${after}`);
    this.#source = source;
    source.onopen = () => {
      this.#wait = FIRST_WAIT;
      this.#heard = Date.now();
      this.#is("live");
    };
    source.onerror = () => this.#failed();
    source.addEventListener("alive", () => { this.#heard = Date.now(); this.#alive = true; });
    for (const [name, handle] of Object.entries(this.#handlers)) {
      source.addEventListener(name, message => {
        this.#heard = Date.now();
        if (message.lastEventId) this.#lastId = message.lastEventId;
        handle(JSON.parse(message.data));
      });
    }
    // A stream that is opened anew for another selection was live a moment ago: not worth a word.
    if (this.state !== "live") this.#is("connecting");
  }

  #failed() {
    this.#close();
    // It may be another process that answers next time, whose events are numbered anew.
    this.#lastId = null;
    this.retryAt = Date.now() + this.#wait;
    this.#timer = setTimeout(() => this.#open(), this.#wait);
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT);
    this.#is("lost");
  }

  #pause() {
    this.#close();
    this.#is("paused");
  }

  #close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #is(state) {
    if (state !== this.state && !(this.state === "lost" && state === "connecting")) {
      this.state = state;
      this.since = Date.now();
    }
    this.#changed();
  }
}
