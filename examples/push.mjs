// Follows a task by push:  node push.mjs [TASK_ID [BASE_URL]]
// Exits with 0 when it succeeded, 1 when it failed, 3 when there is no such task.
const [id = "demo-task", base = "http://localhost:8080"] = process.argv.slice(2);
const url = `${base}/api/task?task_id=${encodeURIComponent(id)}`;
process.exitCode = await follow();

async function follow() {
  let last = ""; // the state seen last: a new connection goes on after it
  for (;;) {
    try {
      const response = await fetch(url, { headers: { Accept: "application/x-ndjson", "Last-Event-ID": last } });
      if (response.status === 404) return leave(3, "There is no such task");
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      for await (const { cursor, task } of events(response)) {
        if (!task) continue; // news of the stream, such as "synced"
        last = cursor;
        const code = show(task);
        if (code !== undefined) return code;
      }
    } catch (error) {
      console.error(`${error.message}, trying again`); // the gateway may be restarting
    }
    await new Promise((wake) => setTimeout(wake, 1000));
  }
}

// One JSON object a line; a chunk may end within a line, an empty line only keeps the connection open.
async function* events(response) {
  let rest = "";
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) yield JSON.parse(line);
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
