// The browser's side of the gateway: what a page would poll for is told to it. All is explained in gateway.d.ts.

import { Mirror } from "./gateway/mirror.js";
import { open } from "./gateway/sharing.js";
import { ask } from "./gateway/transports.js";

export class TaskError extends Error {
  constructor(message, id, task) {
    super(message);
    this.name = new.target.name;
    this.id = id;
    this.task = task;
  }
}
export class TaskFailedError extends TaskError {}
export class TaskGoneError extends TaskError {}
export class TaskUnknownError extends TaskError {}

export const HOME = globalThis.location?.origin?.startsWith("http") ? globalThis.location.origin : "http://localhost:8080";
const WAIT = 5_000; // milliseconds for a file that is about to be written, as the gateway waits

const POLLS = {
  v1: (id) => `/api/v1/tasks/${encodeURIComponent(id)}`,
  flat: (id) => `/api/task?task_id=${encodeURIComponent(id)}`,
  system: (id) => `/api/system/tasks?task_id=${encodeURIComponent(id)}`,
};

/**
 * Follows many tasks, or, without `ids`, all.
 * @param {import("./gateway.d.ts").WatchTasks} [watch]
 */
export function watchTasks({ url = HOME, ids, signal, ...handlers } = {}) {
  if (signal?.aborted) return;
  const tab = Tab.at(url, handlers.options ?? {});
  const watcher = { ids: ids && new Set(ids), handlers, number: 0 };
  tab.add(watcher);
  signal?.addEventListener("abort", () => tab.remove(watcher), { once: true });
}

/**
 * Resolves with the final state of a task that succeeded; rejects with a TaskError or the signal's reason.
 * @param {string} id
 * @param {import("./gateway.d.ts").WatchTask} [watch]
 */
export function watchTask(id, { url = HOME, dialect, onUpdate, signal, wait = WAIT, options } = {}) {
  return new Promise((resolve, reject) => {
    const stopping = new AbortController();
    const { promise, told } = shown(url, dialect, onUpdate, stopping.signal, options ?? {});
    let last, missing;
    const end = (settle, value) => {
      clearTimeout(missing);
      stopping.abort();
      signal?.removeEventListener("abort", abort);
      settle(value);
    };
    const abort = () => end(reject, signal.reason);
    const miss = (Kind, text) => {
      clearTimeout(missing);
      missing = setTimeout(() => end(reject, new Kind(text, id, last)), wait);
    };
    if (signal?.aborted) return reject(signal.reason);
    signal?.addEventListener("abort", abort);
    watchTasks({
      url,
      ids: [id],
      options,
      signal: stopping.signal,
      onUpdate: async (task) => {
        clearTimeout(missing);
        last = task;
        const body = await told(task);
        if (stopping.signal.aborted || body === undefined) return;
        if (task.status === "completed") end(resolve, body);
        if (task.status === "error") end(reject, new TaskFailedError(task.message, id, body));
      },
      onGone: () => miss(TaskGoneError, `Task ${id} was deleted`),
      onSynced: () => last || miss(TaskUnknownError, `There is no task ${id}`),
    });
    promise.catch((error) => end(reject, error));
  });
}

/** How a task is shown: `told(task)` resolves with what `onUpdate` got, or undefined where a newer one came. */
function shown(url, dialect, onUpdate, signal, options) {
  let number = 0;
  let fail;
  const promise = new Promise((_, reject) => (fail = reject));
  async function told(task) {
    const mine = ++number;
    try {
      const body = dialect ? await (await ask(options, new URL(POLLS[dialect](task.id), url), signal)).json() : task;
      if (signal.aborted || mine !== number) return undefined; // a late answer never overwrites a newer one
      onUpdate?.(body);
      return body;
    } catch (error) {
      if (!signal.aborted) fail(error);
      return undefined;
    }
  }
  return { promise, told };
}

/** What this page knows of one gateway, and who in it wants to know. */
class Tab {
  static all = new Map();

  static at(url, options) {
    const base = new URL(url, globalThis.location?.href).href;
    const key = options.token?.call ? options.token : JSON.stringify([base, options]);
    if (!Tab.all.has(key)) Tab.all.set(key, new Tab(base, options));
    return Tab.all.get(key);
  }

  constructor(base, options) {
    this.watchers = new Set();
    this.number = 0;
    this.mirror = new Mirror((said) => this.tell(said));
    this.port = open(base, options, (said) => (said.state ? this.stand(said.state) : this.mirror.take(said)));
    const wake = () => globalThis.document?.visibilityState !== "hidden" && this.watchers.size && this.port.wake();
    globalThis.addEventListener?.("online", wake);
    globalThis.document?.addEventListener("visibilitychange", wake);
  }

  add(watcher) {
    this.watchers.add(watcher);
    watcher.number = ++this.number;
    queueMicrotask(() => this.watchers.has(watcher) && this.greet(watcher));
  }

  /** What is known already need not be waited for. */
  greet(watcher) {
    if (this.state) watcher.handlers.onState?.(this.state);
    for (const task of this.mirror.tasks.values()) this.pass(watcher, { task });
    for (const [id, error] of this.mirror.faults) this.pass(watcher, { event: "invalid", id, error });
    watcher.greeted = true;
    this.want();
  }

  remove(watcher) {
    this.watchers.delete(watcher);
    if (this.watchers.size) return;
    this.port.leave();
    this.mirror.clear();
  }

  want() {
    const watchers = [...this.watchers];
    const all = watchers.some(({ ids }) => !ids);
    this.port.want({ ids: all ? null : [...new Set(watchers.flatMap(({ ids }) => [...ids]))], number: this.number });
  }

  tell(said) {
    for (const watcher of this.watchers) if (watcher.greeted) this.pass(watcher, said);
  }

  pass({ ids, handlers, number }, said) {
    const { task, event, id = task?.id, error } = said;
    if (event === "synced") return number <= said.number && handlers.onSynced?.();
    if (ids && !ids.has(id)) return;
    if (task) handlers.onUpdate?.(task);
    else if (event === "gone") handlers.onGone?.(id);
    else handlers.onInvalid?.(id, error);
  }

  stand(state) {
    this.state = state;
    for (const { handlers } of this.watchers) handlers.onState?.(state);
  }
}
