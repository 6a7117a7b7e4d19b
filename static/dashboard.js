// The live list of tasks, over the stream of /api/v1/tasks.
// Events only change `tasks`; one paint a frame makes the page say the same.

const MOST_ROWS = 500;

const list = document.getElementById("tasks");
const template = document.getElementById("row");
const tasks = new Map(); // by id: the item as it came, and `invalid` where its file cannot be shown
const rows = new Map();
let fresh = null; // ids of the snapshot that is under way
let state = "connecting";
let painting = false;

function paintSoon() {
  if (!painting) {
    painting = true;
    requestAnimationFrame(paint);
  }
}

function keep(id, change) {
  tasks.set(id, { id, status: "running", progress: 0, message: "", updated: 0, ...tasks.get(id), ...change });
  fresh?.add(id);
  paintSoon();
}

function say(text) {
  state = text;
  paintSoon();
}

function connect() {
  const source = new EventSource("/api/v1/tasks");
  // A new source has no cursor and gets a snapshot. One that reconnects gets what it missed, or `reset` and a snapshot.
  fresh = new Set();
  const on = (name, handle) =>
    source.addEventListener(name, (event) => {
      handle(JSON.parse(event.data));
      paintSoon();
    });

  source.onopen = () => say("catching up");
  source.onmessage = (event) => {
    const item = JSON.parse(event.data);
    keep(item.id, { ...item, invalid: undefined });
  };
  on("reset", () => (fresh = new Set()));
  on("gone", ({ id }) => tasks.delete(id));
  on("invalid", ({ id, error }) => keep(id, { invalid: error }));
  on("synced", () => {
    for (const id of fresh ? tasks.keys() : []) {
      if (!fresh.has(id)) tasks.delete(id); // what was there before the snapshot, and is not in it
    }
    fresh = null;
    say("live");
  });
  source.onerror = () => {
    say("reconnecting");
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000 + 3000 * Math.random());
  };
}

const shownStatus = (task) => (task.invalid ? "invalid" : task.status);
const isRunning = (task) => shownStatus(task) === "running";

function paint() {
  painting = false;
  const all = [...tasks.values()].sort(
    (a, b) => isRunning(b) - isRunning(a) || b.updated - a.updated || (a.id < b.id ? -1 : 1),
  );
  const shown = all.slice(0, MOST_ROWS);
  const ids = new Set(shown.map((task) => task.id));
  for (const [id, row] of rows) {
    if (!ids.has(id)) {
      row.remove();
      rows.delete(id);
    }
  }
  shown.forEach((task, place) => {
    const row = rows.get(task.id) ?? newRow(task.id);
    fill(row, task);
    if (list.children[place] !== row) list.insertBefore(row, list.children[place] ?? null);
  });
  const count = (status) => all.filter((task) => shownStatus(task) === status).length;
  const counts = [`${count("running")} running`, `${count("completed")} completed`, `${count("error")} failed`];
  if (count("invalid")) counts.push(`${count("invalid")} invalid`);
  set(document.getElementById("counts"), all.length ? counts.join(", ") : "");
  const connection = document.getElementById("connection");
  set(connection, state);
  connection.dataset.state = state;
  document.getElementById("empty").hidden = state !== "live" || all.length > 0;
  const more = document.getElementById("more");
  more.hidden = all.length <= MOST_ROWS;
  set(more, `and ${all.length - shown.length} more`);
}

function newRow(id) {
  const row = template.content.firstElementChild.cloneNode(true);
  rows.set(id, row);
  return row;
}

function fill(row, task) {
  row.dataset.status = shownStatus(task);
  const bar = row.querySelector("progress");
  set(row.querySelector(".id"), task.id);
  set(row.querySelector(".status"), row.dataset.status);
  set(row.querySelector(".message"), task.invalid ?? task.message);
  set(row.querySelector(".percent"), `${task.progress} %`);
  set(row.querySelector("time"), task.updated ? age(task.updated) : "");
  if (bar.value !== task.progress || !bar.hasAttribute("value")) bar.value = task.progress;
  bar.ariaLabel = `progress of ${task.id}`;
}

// Text from task files is only ever set as text. The same text is not set again: it would be selected away.
function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function age(updated) {
  const seconds = Math.max(0, Math.round((Date.now() - updated) / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 86_400 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}

setInterval(paintSoon, 1000); // ages
connect();
