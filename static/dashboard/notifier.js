// A notification when a watched task ends. The browser is asked for leave when somebody wants one, never before.

import { word } from "./status.js";

export class Notifier {
  /** `open(id)` is called when a notification is clicked. */
  constructor(open) {
    this.open = open;
    this.ids = new Set();
    this.refused = ""; // why there will be none
  }

  watches(id) {
    return this.ids.has(id);
  }

  async toggle(id) {
    if (this.ids.delete(id)) return;
    this.refused = "";
    if (!("Notification" in globalThis)) this.refused = "Not possible here";
    else if ((await Notification.requestPermission()) !== "granted") this.refused = "Not allowed";
    else this.ids.add(id);
  }

  ended({ id, status, message }) {
    if (!this.ids.delete(id)) return;
    try {
      const said = new Notification(`${id} ${word(status)}`, { body: message, tag: id, icon: "/static/icon.svg" });
      said.onclick = () => {
        globalThis.focus();
        this.open(id);
      };
    } catch {
      // some phones only let service workers do this
    }
  }
}
