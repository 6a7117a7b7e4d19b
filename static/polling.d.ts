/** Resolves with true once the task has ended, whether well or not, and logs as the document's function does. */
export function pollTask(taskId: string, options?: { url?: string | URL }): Promise<boolean>;

/** Resolves with the flat body of the final state; rejects with an Error of the task's message. */
export function waitForTaskCompletion(
  taskId: string,
  pollIntervalMs?: number,
  options?: { url?: string | URL },
): Promise<Record<string, unknown>>;
