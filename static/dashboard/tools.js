// Filters by status with their counts, the search and the sort.

import { attribute, draw, make, say } from "./dom.js";
import { count } from "./format.js";
import { STATUSES, word } from "./status.js";

export class Tools {
  /** `look(change)` is told what is to be looked at from now on, such as `{status: "running"}`. */
  constructor(look) {
    this.search = document.getElementById("search");
    this.sort = document.getElementById("sort");
    this.buttons = new Map(["", ...STATUSES].map((status) => [status, filter(status, look)]));
    document.getElementById("filters").append(...Array.from(this.buttons.values(), ({ button }) => button));
    this.search.oninput = () => look({ search: this.search.value });
    this.sort.onchange = () => look({ sort: this.sort.value });
    document.getElementById("clear").onclick = () => {
      look({ status: "", search: "" });
      this.search.focus();
    };
  }

  show({ status, search, sort }) {
    if (this.search.value !== search) this.search.value = search;
    this.sort.value = sort;
    for (const [name, { button }] of this.buttons) attribute(button, "aria-pressed", name === status);
  }

  render(counts, all) {
    for (const [status, { number }] of this.buttons) say(number, count(status ? counts[status] : all));
  }
}

function filter(status, look) {
  const number = make("span", { className: "number" }, "0");
  const name = make("span", { className: "name" }, status ? word(status) : "all");
  const button = make("button", { type: "button" }, number, " ", name);
  if (status) {
    const shape = draw("svg", { class: "shape", "aria-hidden": "true" });
    shape.append(draw("use", { href: `#shape-${status}` }));
    button.prepend(shape);
    button.dataset.status = status;
  }
  const toggled = () => (button.getAttribute("aria-pressed") === "true" ? "" : status);
  button.onclick = () => look({ status: toggled() });
  return { button, number };
}
