// Four ways to hear of tasks, best first. Each is an async generator over one connection: it yields what the gateway
// says, `{cursor?, task}` or `{cursor?, event, id?, error?}`, and `{}` for a sign of life; it ends or throws when the
// connection does. A query is `{base, ids, cursor, token}`: ids are null for all, token may be a function.

const PAGE = 1000;
const ROUNDS = 30; // of so many polls one looks at every page: what was deleted long ago is on the last

function urlOf({ base, ids }, more = {}) {
  const url = new URL("/api/v1/tasks", base);
  for (const id of ids ?? []) url.searchParams.append("id", id);
  for (const [name, value] of Object.entries(more)) if (value) url.searchParams.set(name, value);
  return url;
}

const tokenOf = async ({ token }) => (token?.call ? token() : token);

export async function ask(query, url, signal, headers = {}) {
  const token = await tokenOf(query);
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(url, { headers, signal, cache: "no-store" });
  if (response.ok || response.status === 304) return response;
  throw new Error(`HTTP ${response.status}`);
}

export async function* sse(query, signal) {
  const url = urlOf(query, { cursor: query.cursor });
  const response = await ask(query, url, signal, { Accept: "text/event-stream" });
  if (!response.headers.get("content-type")?.startsWith("text/event-stream")) throw new Error("not a stream");
  let fields = {};
  for await (const line of lines(response.body)) {
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (line === "") {
      if (fields.data) yield eventOf(fields);
      fields = {};
    } else {
      if (name) fields[name] = value;
      yield name === "retry" ? { retry: Number(value) } : {};
    }
  }
}

function eventOf({ id: cursor, event, data }) {
  const said = JSON.parse(data);
  return event ? { ...said, cursor, event } : { cursor, task: said };
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const whole = (rest + value).split("\n");
      rest = whole.pop();
      yield* whole;
    }
  } finally {
    reader.cancel().catch(() => {}); // the connection may be gone already
  }
}

export async function* websocket(query, signal, beat) {
  const url = urlOf(query, { cursor: query.cursor });
  url.protocol = url.protocol.replace("http", "ws");
  const token = await tokenOf(query);
  const socket = new WebSocket(url);
  const said = [];
  let wake, ended;
  const tell = (message) => {
    if (message) said.push(message);
    wake?.();
  };
  const end = () => tell((ended = true) && null);
  socket.onmessage = ({ data }) => tell(messageOf(JSON.parse(data)));
  socket.onopen = () => {
    if (token) socket.send(JSON.stringify({ type: "auth", token }));
    tell({});
  };
  socket.onclose = end;
  signal.addEventListener("abort", end);
  // Its heartbeats are frames that a script cannot see, so it is asked.
  const pings = setInterval(() => socket.readyState === 1 && socket.send('{"type":"ping"}'), beat);
  try {
    while (!ended || said.length) {
      if (said.length) yield said.shift();
      else await new Promise((resolve) => (wake = resolve));
    }
  } finally {
    clearInterval(pings);
    signal.removeEventListener("abort", end);
    socket.close();
  }
}

function messageOf({ type, ...said }) {
  if (type === "task") return said;
  return type === "pong" || type === "error" ? {} : { ...said, event: type };
}

export const longPoll = (query, signal) => polls(query, signal, 20);

export const poll = (query, signal) => polls(query, signal, 0);

async function* polls(query, signal, wait) {
  const told = new Map(); // by id: the task as it was told
  let stale; // only edges say
  for (let round = 0, tag = ""; !signal.aborted; round++) {
    const known = tag ? { "If-None-Match": tag } : {};
    const url = urlOf(query, { limit: PAGE, wait: wait && String(round ? wait : 0) });
    const response = await ask(query, url, signal, known);
    if (response.status === 200) {
      tag = response.headers.get("etag");
      if (!round) yield { event: "reset" };
      const { payload } = await response.json();
      yield* news(query, signal, payload, told, round % ROUNDS === 0);
      if (!round) yield { event: "synced" };
      if (stale !== payload.stale) yield { event: (stale = payload.stale) ? "stale" : "fresh" };
    } else yield {};
    if (!wait) await pause(1000, signal);
  }
}

// Pages come newest first: what changed is on top, and further pages are read only until they show nothing new.
async function* news(query, signal, page, told, every) {
  const seen = new Set();
  for (;;) {
    let known = 0;
    for (const task of page.tasks) {
      const text = JSON.stringify(task);
      seen.add(task.id);
      if (told.get(task.id)?.text === text) known++;
      else yield { task };
      told.set(task.id, { text, updated: task.updated });
    }
    if (!page.next || (known && !every)) break;
    page = (await (await ask(query, urlOf(query, { limit: PAGE, after: page.next }), signal)).json()).payload;
  }
  const oldest = page.next ? page.tasks.at(-1).updated : 0;
  for (const [id, { updated }] of told) {
    if (updated <= oldest || seen.has(id)) continue;
    told.delete(id);
    yield { event: "gone", id };
  }
}

export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, milliseconds);
    function done() {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    }
    if (signal?.aborted) done();
    else signal?.addEventListener("abort", done);
  });
}
