/** An item of `/api/v1/tasks`. `progress` is 0 to 100, `updated` when the file was written, in unix milliseconds. */
export interface Task {
  id: string;
  status: "running" | "completed" | "error";
  progress: number;
  message: string;
  data: unknown;
  updated: number;
  started?: unknown;
  finished?: unknown;
}

/**
 * How the connection stands. `retryAt`, in unix milliseconds, and `reason` come with `reconnecting`. `stale`: it stands,
 * but the gateway is an edge that cannot reach its source; what it tells may be old.
 */
export interface State {
  status: "connecting" | "catching up" | "live" | "polling" | "stale" | "reconnecting";
  transport?: Transport;
  retryAt?: number;
  reason?: string;
}

export type Transport = "sse" | "websocket" | "long-poll" | "poll";

/** What need not be set; periods in milliseconds. Pages that are to share a connection set the same. */
export interface Options {
  /** Which transports may be used. */
  transports?: Transport[];
  /** False: a connection of this page's own. */
  share?: boolean;
  /**
   * A bearer token, or a function that gives one: asked at each new connection, so that it can be refreshed. A function
   * is for one gateway, and is not shared with other tabs.
   */
  token?: string | (() => string | Promise<string>);
  /** False: shared through a leading tab, not a SharedWorker. */
  worker?: boolean;
  /**
   * The gateway's heartbeat (15,000): a connection without a byte for two of them is given up, and so is one that is
   * shared where nothing answers in that time, because a dialog is open in the tab that holds it.
   */
  heartbeat?: number;
  /** Until the first byte must have come (5,000). */
  opens?: number;
  /** The first wait before a new try (500), doubled each time up to `longest` (10,000). */
  retry?: number;
  longest?: number;
  /** Until a better transport is tried again (5,000), doubled up to a minute each time that it does not answer. */
  better?: number;
}

export interface WatchTasks {
  /** The gateway; where the page came from, if left out. */
  url?: string | URL;
  /** Which tasks; all that are recent, and new ones as they come, if left out. */
  ids?: string[];
  onUpdate?(task: Task): void;
  /** Its file was deleted. */
  onGone?(id: string): void;
  /** Its file cannot be shown; the last good state stays, and the next one is an update. */
  onInvalid?(id: string, error: string): void;
  /** All there was has been said: live from here. Again after each new connection. */
  onSynced?(): void;
  onState?(state: State): void;
  /** Ends it. */
  signal?: AbortSignal;
  options?: Options;
}

/** Follows many tasks, or all. */
export function watchTasks(watch?: WatchTasks): void;

export interface WatchTask<Body> {
  url?: string | URL;
  /** Gets each new state; the last one too. */
  onUpdate?(task: Body): void;
  signal?: AbortSignal;
  /** Milliseconds that a task may have no file (5,000). */
  wait?: number;
  options?: Options;
}

/**
 * Follows one task to its end, and resolves with the final state if it succeeded. Rejects with a TaskFailedError,
 * TaskGoneError or TaskUnknownError, and with the signal's reason. With a `dialect` states are the bodies of that
 * polling URL, which is asked at each change.
 */
export function watchTask(
  id: string,
  watch: WatchTask<Record<string, unknown>> & { dialect: "flat" | "v1" | "system" },
): Promise<Record<string, unknown>>;
export function watchTask(id: string, watch?: WatchTask<Task> & { dialect?: undefined }): Promise<Task>;

/** Why a task did not succeed. */
export class TaskError extends Error {
  readonly id: string;
  /** The last state that was seen. */
  readonly task?: unknown;
}
/** It ended in `error`; the message is the task's own. */
export class TaskFailedError extends TaskError {}
/** Its file was deleted. */
export class TaskGoneError extends TaskError {}
/** There is no such task. */
export class TaskUnknownError extends TaskError {}

/** The gateway that this page came from; elsewhere, such as in Node.js, `http://localhost:8080`. */
export const HOME: string;
