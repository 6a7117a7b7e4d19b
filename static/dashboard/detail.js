// The pane for one task: its state, its changes, its JSON, and how to follow it from elsewhere.

import { ProgressChart } from "./chart.js";
import { copyButton, fillBar, make, resetBar, say } from "./dom.js";
import { left, rate, span } from "./format.js";
import { snippets } from "./snippets.js";
import { word } from "./status.js";
import { Timeline } from "./timeline.js";
import { Tree } from "./tree.js";

const narrow = matchMedia("(max-width: 52rem)");

export class Detail {
  /** `close()` is called by the button, `tell(text)` says something to who cannot see it. */
  constructor({ board, history, notifier, close, tell }) {
    Object.assign(this, { board, history, notifier, tell });
    this.id = "";
    this.pane = document.getElementById("detail");
    this.pane.append(document.getElementById("pane").content.cloneNode(true));
    const part = (selector) => this.pane.querySelector(selector);
    this.parts = {
      shape: part("use"), word: part(".word"), title: part("h2"), message: part(".message"), bar: part(".bar"),
      percent: part("dd.percent"), rate: part("dd.rate"), left: part("dd.left"), age: part("dd.age"),
      note: part(".changes small"), follow: part(".follow"), notify: part(".notify"),
    };
    this.chart = new ProgressChart(part(".changes .chart"));
    this.timeline = new Timeline(part(".changes ol"));
    this.tree = new Tree(part(".tree"));
    part(".close").onclick = close;
    this.parts.notify.onclick = () => this.#watch();
    copyButton(part(".json .copy"), () => JSON.stringify(this.task, null, 2), tell);
    narrow.addEventListener("change", () => this.#cover());
  }

  /** Shows this task, or none. The focus is the caller's to move. */
  open(id) {
    if (this.id === id) return;
    this.id = id;
    this.history.kept = id;
    this.pane.hidden = !id;
    document.body.classList.toggle("with-detail", Boolean(id));
    this.#cover();
    if (!id) return;
    this.known = false;
    this.task = undefined;
    this.timeline.clear();
    this.tree.clear();
    resetBar(this.parts.bar);
    say(this.parts.title, id);
    this.pane.setAttribute("aria-label", `Task ${id}`);
    this.pane.scrollTop = 0;
    this.#follow(id);
  }

  /** On a phone the pane covers all: what is behind it cannot be reached. */
  #cover() {
    document.getElementById("board").inert = Boolean(this.id) && narrow.matches;
  }

  focus() {
    this.parts.title.focus({ preventScroll: true });
  }

  #follow(id) {
    const { follow } = this.parts;
    while (follow.childElementCount > 1) follow.lastElementChild.remove();
    for (const { name, text } of snippets(location.origin, id)) {
      const button = make("button", { type: "button", className: "copy", ariaLabel: `Copy ${name}` }, "Copy");
      copyButton(button, () => text, this.tell);
      const code = make("pre", { tabIndex: 0, ariaLabel: name }, make("code", {}, text));
      code.setAttribute("role", "group");
      follow.append(make("div", { className: "snippet" }, make("h4", {}, name), button, code));
    }
  }

  async #watch() {
    await this.notifier.toggle(this.id);
    this.render(Date.now());
  }

  render(now) {
    if (!this.id) return;
    const entry = this.board.entries.get(this.id);
    const { parts } = this;
    this.#state(entry?.status ?? "unknown");
    this.known ||= Boolean(entry);
    const missing = this.known ? "The file of this task was deleted." : "There is no such task.";
    say(parts.message, entry ? entry.message : missing);
    this.pane.classList.toggle("unknown", !entry);
    if (entry) this.#figures(entry, now);
    const task = entry?.task ?? undefined;
    const changes = this.history.of(this.id, task);
    if (this.timeline.show(changes)) {
      this.chart.show(changes);
      say(parts.note, `${changes.length} ${changes.length === 1 ? "state" : "states"} seen since this page was opened`);
    }
    this.#json(task);
    this.#notify(entry);
  }

  #state(status) {
    const { pane, parts } = this;
    if (pane.dataset.status === status) return;
    pane.dataset.status = status;
    parts.shape.setAttribute("href", `#shape-${status}`);
    say(parts.word, word(status));
  }

  #figures(entry, now) {
    const { parts } = this;
    const runs = entry.status === "running";
    fillBar(parts.bar, entry.id, entry.progress);
    say(parts.percent, `${entry.progress} %`);
    say(parts.rate, runs ? rate(entry.pace.rate) : "–");
    say(parts.left, runs ? left(entry.pace.left(now)) : "–");
    say(parts.age, entry.updated ? `${span(now - entry.updated)} ago` : "–");
  }

  #json(task) {
    if (this.task === task) return;
    this.task = task;
    if (task) this.tree.show(task);
    else this.tree.clear();
  }

  #notify(entry) {
    const { notify } = this.parts;
    const watched = this.notifier.watches(this.id);
    notify.hidden = !watched && entry?.status !== "running";
    notify.setAttribute("aria-pressed", watched);
    say(notify, this.notifier.refused || (watched ? "Will notify" : "Notify me"));
  }
}
