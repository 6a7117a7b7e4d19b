// The states a task can be in, and their words. Each has a shape of its own in index.html: colour is never alone.

export const STATUSES = ["running", "completed", "error", "invalid"];

const WORDS = { running: "running", completed: "completed", error: "failed", invalid: "invalid" };

/** The word that people read. */
export const word = (status) => WORDS[status] ?? status;

export const isEnd = (status) => status === "completed" || status === "error";
