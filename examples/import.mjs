// Starts an import and follows it by push:  node import.mjs [BASE_URL [FILE…]]
// For a gateway in front of a backend (gateway demo --upstream). Exits like push.mjs.
const [base = "http://localhost:8080", ...files] = process.argv.slice(2);
const id = await start(files);
console.log(`Started ${id}`);
process.argv.splice(2, Infinity, id, base);
await import("./push.mjs");

// The Go backend is asked at /api/v1/import, the C backend at /api/transactions/import: the one that is there answers.
async function start(files) {
  const query = new URLSearchParams({ files: files.join(","), memo: "From import.mjs" });
  for (const path of ["/api/v1/import", `/api/transactions/import?${query}`]) {
    const response = await fetch(base + path, path.includes("?") ? {} : { method: "POST", body: JSON.stringify({ files }) });
    if (response.status === 404) continue;
    const reply = await response.json();
    return reply.task_id ?? reply.payload.id;
  }
  throw new Error("Nothing here imports");
}
