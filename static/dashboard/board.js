// Every task that is known, counted by status, and the filtered order of those that are looked at. Pure.

import { beginning, Order } from "./order.js";
import { Pace } from "./pace.js";

const MOST_MOVES = 300; // more between two paints: sorting all is cheaper

export class Board {
  constructor() {
    this.entries = new Map();
    this.counts = { running: 0, completed: 0, error: 0, invalid: 0 };
    this.touched = new Set(); // ids whose place may be another one
    this.look({});
  }

  /** What is shown, and how it is sorted. */
  look({ status = "", search = "", sort = "newest" }) {
    this.status = status;
    this.words = search.toLowerCase().split(/\s+/).filter(Boolean);
    this.order = new Order(sort);
    this.stale = true;
  }

  /** A new state of a task. Returns its entry, and the status before (undefined for a new one). */
  update(task) {
    const known = this.entries.get(task.id);
    const before = known?.status;
    const entry = known ?? this.#add(task.id);
    if (task.status === "running" && entry.task?.status !== "running") entry.first = beginning(task);
    entry.pace ??= new Pace(task.progress, task.updated);
    entry.pace.add(task.progress, task.updated);
    const { status, progress, updated, message } = task;
    this.#set(entry, { task, status, progress, updated, message });
    return { entry, before };
  }

  /** The task's file cannot be shown: its last good state stays, marked. */
  invalid(id, error) {
    const entry = this.entries.get(id) ?? this.#add(id);
    this.#set(entry, { status: "invalid", message: error });
    return entry;
  }

  remove(id) {
    const entry = this.entries.get(id);
    if (!entry) return;
    this.counts[entry.status] -= 1;
    this.entries.delete(id);
    this.touched.add(id);
  }

  #add(id) {
    const entry = { id, task: null, status: "", message: "", progress: 0, updated: 0, first: 0, pace: null };
    this.entries.set(id, entry);
    return entry;
  }

  #set(entry, change) {
    if (entry.status) this.counts[entry.status] -= 1;
    Object.assign(entry, change);
    this.counts[entry.status] = (this.counts[entry.status] ?? 0) + 1;
    this.touched.add(entry.id);
  }

  #shows(entry) {
    if (this.status && entry.status !== this.status) return false;
    if (!this.words.length) return true;
    const text = `${entry.id}\n${entry.message}`.toLowerCase();
    return this.words.every((word) => text.includes(word));
  }

  /** Brings the order up to date; whether it is another one than before. */
  settle() {
    if (!this.stale && !this.touched.size) return false;
    let moved = this.stale || this.touched.size > MOST_MOVES;
    if (moved) {
      this.order.fill([...this.entries.values()].filter((entry) => this.#shows(entry)));
    } else {
      for (const id of this.touched) {
        const entry = this.entries.get(id);
        if (entry && this.#shows(entry)) moved = this.order.put(entry) || moved;
        else moved = this.order.remove(id) || moved;
      }
    }
    this.stale = false;
    this.touched.clear();
    return moved;
  }
}
