// The changes of one task, newest first. Only what is new is added; what is no longer kept is taken away.

import { make } from "./dom.js";
import { clock } from "./format.js";
import { word } from "./status.js";

export class Timeline {
  constructor(host) {
    this.host = host;
    this.shown = []; // the changes as they are shown, oldest first
  }

  show(changes) {
    const last = this.shown.at(-1);
    if (last && last === changes.at(-1) && this.shown.length === changes.length) return false;
    const known = last ? changes.lastIndexOf(last) : -1;
    if (known < 0) this.host.replaceChildren();
    for (const change of changes.slice(known + 1)) this.host.prepend(line(change));
    while (this.host.childElementCount > changes.length) this.host.lastElementChild.remove();
    this.shown = [...changes];
    return true;
  }

  clear() {
    this.shown = [];
    this.host.replaceChildren();
  }
}

function line({ at, status, progress, message }) {
  const item = make(
    "li",
    {},
    make("time", { dateTime: new Date(at).toISOString() }, clock(at)),
    make("span", { className: "percent" }, `${progress} %`),
    make("span", { className: "message" }, status === "running" ? message : `${word(status)}: ${message}`),
  );
  item.dataset.status = status;
  return item;
}
