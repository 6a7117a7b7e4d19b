// How the connection stands, in words that can be trusted, and when the last event came.

import { attribute, say } from "./dom.js";
import { span } from "./format.js";

const words = (status) => (status === "stale" ? "may be old: the gateway cannot reach its source" : status);

export class ConnectionState {
  constructor(announcer) {
    this.announcer = announcer;
    this.element = document.getElementById("connection");
    this.word = this.element.querySelector(".word");
    this.last = this.element.querySelector(".last");
    this.state = { status: "connecting" };
    this.heard = 0;
  }

  get live() {
    return this.state.status === "live" || this.state.status === "polling";
  }

  take(state) {
    if (state.status !== this.state.status && state.status !== "catching up") this.announcer.say(words(state.status));
    this.state = state;
  }

  event(now) {
    this.heard = now;
  }

  render(now) {
    const { status, retryAt, transport } = this.state;
    const wait = Math.max(0, Math.ceil(((retryAt ?? now) - now) / 1000));
    const text = status === "reconnecting" ? (wait ? `reconnecting in ${wait} s` : "reconnecting now") : words(status);
    say(this.word, text);
    attribute(this.element, "data-state", status);
    const over = transport && transport !== "sse" ? `over ${transport} · ` : "";
    say(this.last, `${over}${this.heard ? `last event ${span(now - this.heard)} ago` : "no event yet"}`);
  }
}
