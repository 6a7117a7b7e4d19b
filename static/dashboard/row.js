// One row of the list. Rows are reused: `bind` says for which task.

import { attribute, fillBar, resetBar, say } from "./dom.js";
import { left, moment, rate, span } from "./format.js";
import { word } from "./status.js";

const template = document.getElementById("row");

export class Row {
  constructor() {
    this.element = template.content.firstElementChild.cloneNode(true);
    const part = (name) => this.element.querySelector(`.${name}`);
    this.link = part("id");
    this.shape = this.element.querySelector("use");
    this.word = part("word");
    this.message = part("message");
    this.bar = part("bar");
    this.percent = part("percent");
    this.rate = part("rate");
    this.left = part("left");
    this.age = part("age");
    this.id = null;
  }

  bind(id) {
    if (this.id === id) return;
    this.id = id;
    this.link.textContent = this.link.title = id;
    this.link.href = `#${new URLSearchParams({ task: id })}`;
    resetBar(this.bar);
  }

  /** `place` counts from 0, `size` is how many rows the whole list has. */
  fill(entry, { place, size, height, now, current, open }) {
    this.bind(entry.id);
    this.#stand(place, size, height);
    this.#tell(entry, now);
    this.link.tabIndex = current ? 0 : -1;
    if (open) attribute(this.link, "aria-current", "true");
    else this.link.removeAttribute("aria-current");
  }

  #stand(place, size, height) {
    const top = `translateY(${place * height}px)`;
    if (this.top !== top) this.element.style.setProperty("transform", (this.top = top));
    attribute(this.element, "aria-posinset", place + 1);
    attribute(this.element, "aria-setsize", size);
  }

  #tell(entry, now) {
    const runs = entry.status === "running";
    if (this.element.dataset.status !== entry.status) {
      this.element.dataset.status = entry.status;
      this.shape.setAttribute("href", `#shape-${entry.status}`);
      this.word.textContent = word(entry.status);
    }
    say(this.message, entry.message);
    fillBar(this.bar, entry.id, entry.progress);
    say(this.percent, `${entry.progress} %`);
    say(this.rate, runs ? rate(entry.pace.rate) : "");
    say(this.left, runs ? left(entry.pace.left(now)) : "");
    say(this.age, entry.updated ? span(now - entry.updated) : "");
    if (this.updated !== entry.updated) {
      this.updated = entry.updated;
      this.age.title = entry.updated ? moment(entry.updated) : "";
    }
  }
}
