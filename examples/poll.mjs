// Follows a task by polling:  node poll.mjs [TASK_ID [BASE_URL]]
// Exits with 0 when it succeeded, 1 when it failed, 3 when there is no such task.
const [id = "demo-task", base = "http://localhost:8080"] = process.argv.slice(2);
const url = `${base}/api/task?task_id=${encodeURIComponent(id)}`;
process.exitCode = await follow();

async function follow() {
  for (;;) {
    try {
      const response = await fetch(url);
      if (response.status === 404) return leave(3, "There is no such task");
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      const code = show(await response.json());
      if (code !== undefined) return code;
    } catch (error) {
      console.error(`${error.message}, trying again`); // the gateway may be restarting
    }
    await new Promise((wake) => setTimeout(wake, 1000));
  }
}

// Prints where the task is; gives the exit code once that is final.
function show({ status, progress, message }) {
  console.log(`${progress}% ${message}`);
  switch (status.toLowerCase()) {
    case "success":
    case "completed":
      return progress >= 100 ? 0 : undefined; // below 100 it is still under way
    case "error":
    case "failed":
    case "cancelled":
      return leave(1, `Failed: ${message}`);
  }
}

function leave(code, why) {
  console.error(why);
  return code;
}
