// How a tab reaches the one connection of its origin: `open(base, options, hear)` gives `{want, leave, wake}`.
// By a SharedWorker, else through the tab that holds a lock, else (or with a function as token) alone.

import { Feed } from "./feed.js";

export function open(base, options, hear) {
  const shared = options.share !== false && !options.token?.call && globalThis.location && globalThis.navigator?.locks;
  if (!shared) return alone(base, options, hear);
  const tab = crypto.randomUUID();
  const held = hold(tab); // before it is named to anybody, who would take it for gone
  if (options.worker !== false && typeof SharedWorker !== "undefined") {
    try {
      return worker(base, options, hear, tab, held);
    } catch {
      // the page is of another origin
    }
  }
  return led(base, options, hear, tab, held);
}

/** Resolves when this has the lock of that name, which it lets go when it is no more. */
function hold(name) {
  return new Promise((resolve) => navigator.locks.request(name, () => (resolve(), new Promise(() => {}))));
}

/** Resolves once the tab that holds this lock is no more. */
export function untilLeft(tab) {
  return navigator.locks.request(tab, () => {});
}

function alone(base, options, hear) {
  const feed = new Feed(base, options);
  return { want: (want) => feed.want(hear, want), leave: () => feed.leave(hear), wake: () => feed.wake() };
}

function worker(base, options, hear, tab, held) {
  const { port } = new SharedWorker(new URL("./worker.js", import.meta.url), { type: "module", name: "gateway" });
  const send = (message) => held.then(() => port.postMessage(message));
  port.onmessage = ({ data }) => hear(data);
  send({ open: { base, options, tab } });
  return { want: (want) => send({ want }), leave: () => send({ leave: true }), wake: () => send({ wake: true }) };
}

/** The tab that has the lock leads, who waited longest is next; all that is said goes by a channel. */
function led(base, options, hear, tab, held) {
  const name = `gateway ${JSON.stringify([base, options])}`;
  const channel = new BroadcastChannel(name);
  let wanted = null; // what this tab wants, for a leader that comes later
  let lead = null; // the feed, where this tab leads
  const posts = new Map(); // by tab: how the leader posts to it

  function take({ from, want, leave, wake }) {
    if (!posts.has(from)) {
      posts.set(from, from === tab ? hear : (said) => channel.postMessage({ to: from, said }));
      untilLeft(from).then(() => (lead.leave(posts.get(from)), posts.delete(from)));
    }
    if (want) lead.want(posts.get(from), want);
    else if (leave) lead.leave(posts.get(from));
    else if (wake) lead.wake();
  }

  async function send(message) {
    await held;
    if (lead) take({ from: tab, ...message });
    else channel.postMessage({ from: tab, ...message });
  }

  channel.onmessage = ({ data }) => {
    if (data.to === tab) hear(data.said);
    else if (data.hello && wanted) send({ want: wanted });
    else if (data.from && lead) take(data);
  };
  hold(name).then(() => {
    lead = new Feed(base, options);
    channel.postMessage({ hello: true });
    if (wanted) send({ want: wanted });
  });
  return {
    want: (want) => send({ want: (wanted = want) }),
    leave: () => send({ leave: (wanted = null) === null }),
    wake: () => send({ wake: true }),
  };
}
