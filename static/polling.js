// The documents' own functions, told instead of polling: a page that has them changes one import.

import { HOME, TaskFailedError, watchTask } from "./gateway.js";

const polled = new Map(); // one watch for each task, however often an interval asks

/** Resolves with true once the task has ended, whether well or not. `url` is the gateway's. */
export function pollTask(taskId, { url = HOME } = {}) {
  const key = JSON.stringify([url, taskId]);
  if (!polled.has(key)) {
    const say = ({ payload }) => console.log(`Task ${taskId} progress: ${payload.progress}% - ${payload.message}`);
    const watch = watchTask(taskId, { url, dialect: "v1", onUpdate: say })
      .then(({ payload }) => console.log("Task finished successfully!", payload.data))
      .catch((error) => console.error(error instanceof TaskFailedError ? "Task failed:" : "Error:", error.message))
      .then(() => polled.delete(key));
    polled.set(key, watch);
  }
  return polled.get(key);
}

/** Resolves with the flat body of the final state; rejects with the task's message. The interval is not needed. */
export function waitForTaskCompletion(taskId, _pollIntervalMs, { url = HOME } = {}) {
  console.log(`Waiting for task ${taskId} to complete...`);
  const say = (task) => console.log(`Progress: ${task.progress}% - ${task.message}`);
  return watchTask(taskId, { url, dialect: "flat", onUpdate: say });
}
