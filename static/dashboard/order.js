// Tasks in an order that is kept, not computed: a change moves one task, by binary search. Pure.

const epoch = (value) => (typeof value === "number" ? value : Date.parse(value) || 0);

const isRunning = (entry) => entry.status === "running";
const latestFirst = (entry) => -entry.updated;
const runningFirst = (entry) => (isRunning(entry) ? 0 : 1);
const ended = (entry) => (isRunning(entry) ? (entry.pace.end ?? Infinity) : -entry.updated);

/** Each sort says a group and a value within it; both ascending, then by id. */
export const SORTS = {
  newest: { group: runningFirst, value: (entry) => -(isRunning(entry) ? entry.first : entry.updated) },
  changed: { group: () => 0, value: latestFirst },
  progress: { group: runningFirst, value: (entry) => -entry.progress },
  left: { group: runningFirst, value: ended },
  id: { group: () => 0, value: () => 0 },
};

/** When a running task began: what its file says, else when it was first seen. It stays, so that rows stay. */
export const beginning = (task) => epoch(task.started) || task.updated;

function compare(a, b) {
  return a.group - b.group || (a.value === b.value ? 0 : a.value - b.value) || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

export class Order {
  constructor(sort = "newest") {
    this.sort = SORTS[sort] ?? SORTS.newest;
    this.items = []; // {id, group, value}, sorted
    this.places = new Map(); // the same by id
  }

  get length() {
    return this.items.length;
  }

  #item(entry) {
    return { id: entry.id, group: this.sort.group(entry), value: this.sort.value(entry) };
  }

  /** Everything anew: cheaper than many moves. */
  fill(entries) {
    this.items = Array.from(entries, (entry) => this.#item(entry)).sort(compare);
    this.places = new Map(this.items.map((item) => [item.id, item]));
  }

  /** Takes a task to its place; whether that made a difference. */
  put(entry) {
    const next = this.#item(entry);
    const now = this.places.get(entry.id);
    if (now && compare(now, next) === 0) return false;
    if (now) this.remove(entry.id);
    this.items.splice(this.#search(next), 0, next);
    this.places.set(entry.id, next);
    return true;
  }

  remove(id) {
    const place = this.indexOf(id);
    if (place < 0) return false;
    this.items.splice(place, 1);
    this.places.delete(id);
    return true;
  }

  indexOf(id) {
    const item = this.places.get(id);
    return item ? this.#search(item) : -1;
  }

  #search(item) {
    let low = 0;
    let high = this.items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(this.items[middle], item) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
