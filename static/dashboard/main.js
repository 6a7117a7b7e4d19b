// The page at /. Events only change what is known; one paint a frame, at most, makes the page say the same.

import { watchTasks } from "/static/gateway.js";
import { compose, parse } from "./address.js";
import { Announcer } from "./announcer.js";
import { Board } from "./board.js";
import { ConnectionState } from "./connection.js";
import { Detail } from "./detail.js";
import { afterPaint } from "./dom.js";
import { Footer } from "./footer.js";
import { History } from "./history.js";
import { listenToKeys } from "./keyboard.js";
import { List } from "./list.js";
import { lookUp } from "./lookup.js";
import { Meter } from "./meter.js";
import { Notifier } from "./notifier.js";
import { Login } from "./login.js";
import { isEnd, word } from "./status.js";
import { Tools } from "./tools.js";

const board = new Board();
const history = new History();
const meter = new Meter();
const announcer = new Announcer();
const connection = new ConnectionState(announcer);
const notifier = new Notifier((id) => look({ task: id }));
const list = new List(board, paintSoon);
const tell = (text) => announcer.say(text);
const detail = new Detail({ board, history, notifier, tell, close: () => close() });
const tools = new Tools((change) => look(change));
const footer = new Footer(meter, list);
const login = new Login(begin);
const empty = document.getElementById("empty");
const nothing = document.getElementById("nothing");
let looked = parse(location.hash);
let painting = false;
let synced = false;
let watching = new AbortController();

function paintSoon() {
  if (painting) return;
  painting = true;
  requestAnimationFrame(paint);
}

function paint() {
  painting = false;
  const began = performance.now();
  const now = Date.now();
  const seen = meter.take();
  const moved = board.settle();
  const all = board.entries.size;
  const shown = board.order.length;
  empty.hidden = !synced || all > 0;
  nothing.hidden = !all || shown > 0;
  list.scroller.hidden = !shown;
  list.render(now, detail.id, moved);
  tools.render(board.counts, all);
  detail.render(now);
  connection.render(now);
  afterPaint(() => meter.painted(seen, performance.now() - began, Date.now()));
}

/** Looks at something else: the address says so too. A task opened is a step back for the browser's button. */
function look(change) {
  const opens = change.task !== undefined && change.task !== looked.task;
  looked = { ...looked, ...change };
  globalThis.history[opens ? "pushState" : "replaceState"](null, "", compose(looked));
  show(change);
}

function show(change) {
  const { status, search, sort } = change;
  if (status !== undefined || search !== undefined || sort !== undefined) {
    board.look(looked);
    list.begin();
  }
  tools.show(looked);
  const opens = looked.task !== detail.id;
  detail.open(looked.task);
  if (opens) list.wanted = looked.task;
  if (looked.task) list.current = looked.task;
  findOpen();
  paintSoon();
  if (opens && looked.task) detail.focus();
}

/** The focus goes back to where the task was opened from. */
function close() {
  look({ task: "" });
  keepFocus();
}

/** The row may only exist after the next paint. */
function keepFocus() {
  paint();
  list.focus();
}

function changed(task) {
  const now = Date.now();
  const last = board.entries.get(task.id)?.task ?? null;
  const { before } = board.update(task);
  if (synced) history.add(task.id, last, task);
  connection.event(now);
  if (connection.live && synced) meter.event(task.updated, now);
  if (isEnd(task.status) && before && !isEnd(before)) {
    announcer.ended(`${task.id} ${word(task.status)}`);
    notifier.ended(task);
  }
  paintSoon();
}

function gone(id) {
  board.remove(id);
  history.remove(id);
  connection.event(Date.now());
  paintSoon();
}

function whenSynced() {
  synced = true;
  findOpen();
  paintSoon();
}

/** A link may lead to a task that is older than those that are told. */
async function findOpen() {
  const { task: id } = looked;
  if (!id || !synced || board.entries.has(id)) return;
  const found = await lookUp(id, login.headers);
  if (!found || board.entries.has(id)) return;
  board.update(found);
  paintSoon();
}

document.getElementById("tasks").addEventListener("click", (event) => {
  const row = event.target.closest("a.id");
  if (!row || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  look({ task: row.textContent });
});
addEventListener("popstate", () => show((looked = parse(location.hash))));
document.addEventListener("visibilitychange", () => meter.skip());
listenToKeys({ list, search: tools.search, detail, moved: keepFocus, close });

function begin() {
  watching.abort();
  watching = new AbortController();
  watchTasks({ ...handlers, signal: watching.signal, options: login.options });
}

const handlers = {
  onUpdate: changed,
  onGone: gone,
  onInvalid: (id, error) => {
    board.invalid(id, error);
    connection.event(Date.now());
    paintSoon();
  },
  onSynced: whenSynced,
  onState: (state) => {
    connection.take(state);
    login.take(state);
    paintSoon();
  },
};
begin();
show(looked);
setInterval(() => {
  if (document.hidden) return meter.skip();
  footer.render(Date.now());
  paintSoon();
}, 1000);
