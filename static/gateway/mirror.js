// What is known of the tasks, from a stream of messages.

export class Mirror {
  /** `changed(message)` gets what was news: `{task}`, or `{event: "gone" | "invalid" | "synced", …}`. */
  constructor(changed) {
    this.changed = changed;
    this.clear();
  }

  clear() {
    this.tasks = new Map(); // by id
    this.faults = new Map(); // by id: why a file cannot be shown
    this.texts = new Map(); // by id: the task as text, to tell news from repetition
    this.fresh = null; // ids of the snapshot that is under way
    this.synced = false;
  }

  take(said) {
    if (said.task) this.put(said.task);
    else if (said.event === "gone") this.drop(said.id);
    else if (said.event === "invalid") this.fault(said);
    else if (said.event === "reset") this.begin();
    else if (said.event === "synced") this.end(said);
  }

  /** A snapshot follows: what it does not hold at its end is gone. */
  begin() {
    this.fresh = new Set();
    this.synced = false;
  }

  put(task) {
    const text = JSON.stringify(task);
    this.fresh?.add(task.id);
    const mended = this.faults.delete(task.id);
    if (this.texts.get(task.id) === text && !mended) return;
    this.texts.set(task.id, text);
    this.tasks.set(task.id, task);
    this.changed({ task });
  }

  fault(said) {
    this.fresh?.add(said.id);
    if (this.faults.get(said.id) === said.error) return;
    this.faults.set(said.id, said.error);
    this.changed(said);
  }

  drop(id) {
    const known = this.tasks.delete(id);
    this.texts.delete(id);
    if (this.faults.delete(id) || known) this.changed({ event: "gone", id });
  }

  end(said) {
    for (const id of this.fresh ? [...this.tasks.keys(), ...this.faults.keys()] : []) {
      if (!this.fresh.has(id)) this.drop(id);
    }
    this.fresh = null;
    this.synced = true;
    this.changed(said);
  }
}
