// The changes seen since the page was opened: bounded a task, and bounded in tasks. Pure.

const MOST_CHANGES = 200;
const MOST_TASKS = 300;

const change = ({ updated, status, progress, message }) => ({ at: updated, status, progress, message });

export class History {
  constructor() {
    this.changes = new Map(); // by id, in the order of their last change
    this.kept = ""; // the task that is looked at is not forgotten
  }

  /** A task went from one state (null where it is new) to the next. */
  add(id, before, task) {
    const all = this.changes.get(id) ?? (before ? [change(before)] : []);
    all.push(change(task));
    if (all.length > MOST_CHANGES) all.shift();
    this.changes.delete(id);
    this.changes.set(id, all);
    if (this.changes.size > MOST_TASKS) this.#forget();
  }

  #forget() {
    for (const id of this.changes.keys()) {
      if (id === this.kept) continue;
      this.changes.delete(id);
      return;
    }
  }

  remove(id) {
    this.changes.delete(id);
  }

  /** Oldest first. A task that did not change has the state it was found in. */
  of(id, task) {
    return this.changes.get(id) ?? (task ? [change(task)] : []);
  }
}
