// The live stream of one group (contract 1.5), for as long as somebody looks.
//
// It reconnects by itself, from where it was. A hidden tab holds no socket; when it is looked at
// again it catches up. `onState` gets "live", "waiting" or "hidden"; `onReload` when too much
// happened to be told one by one.
import { base, session } from "./api.js";

const FIRST = 500; // ms before the first try to connect again; doubles up to LAST
const LAST = 15_000;
const HIDDEN = 10_000; // a tab hidden for so long lets its socket go

export class Live {
  #socket = null;
  #tries = 0;
  #timer = 0;
  #ended = false;
  #lost = false; // the last socket went without our asking

  constructor(group, { onMessage, onState, onReload }) {
    this.group = group;
    this.since = 0;
    this.on = { message: onMessage, state: onState, reload: onReload };
    document.addEventListener("visibilitychange", () => this.#look());
    window.addEventListener("pagehide", () => this.end());
    window.addEventListener("online", () => this.#soon(0));
    this.#connect();
  }

  end() {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
  }

  #connect() {
    clearTimeout(this.#timer);
    if (this.#ended || this.#socket || document.hidden) return;
    const url = new URL(
      `${base}api/v1/task_group/${encodeURIComponent(this.group)}/stream/-`,
      location.href,
    );
    url.protocol = url.protocol.replace("http", "ws");
    // Without a place yet, an empty one asks for it: nothing is missed after a quiet hour.
    url.searchParams.set("since", String(this.since || ""));
    const socket = new WebSocket(url);
    this.#socket = socket;
    socket.onopen = () => {
      this.#tries = 0;
      session.isOver = false;
      this.on.state("live");
      // The stream tells what was missed, but not to who had no place in it yet, nor to a list
      // that could not be loaded meanwhile.
      if (this.#lost) this.on.reload();
      this.#lost = false;
    };
    socket.onmessage = (event) => this.#heard(JSON.parse(event.data));
    socket.onclose = () => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      if (this.#ended) return; // by our own doing
      if (document.hidden) return this.on.state("hidden");
      this.#lost = true;
      this.on.state("waiting");
      this.#soon(Math.min(LAST, FIRST * 2 ** this.#tries++) * (0.7 + Math.random() * 0.6));
    };
  }

  #heard(message) {
    if (message.change) this.since = Math.max(this.since, message.change);
    if (message.type === "reload") this.on.reload();
    else if (message.type !== "ready" && message.type !== "resync") this.on.message(message);
  }

  #soon(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connect(), ms);
  }

  #look() {
    clearTimeout(this.#timer);
    if (document.hidden) this.#timer = setTimeout(() => this.#socket?.close(), HIDDEN);
    else this.#connect();
  }
}
