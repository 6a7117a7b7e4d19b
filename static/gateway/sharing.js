// How a tab reaches the one connection of its origin: `open(base, options, hear)` gives `{want, leave, wake}`.
// By a SharedWorker, else through the tab that holds a lock, else (or with a function as token) alone.

import { DEFAULTS } from "./connection.js";
import { Feed } from "./feed.js";

export function open(base, options, hear) {
  const shared = options.share !== false && !options.token?.call && globalThis.location && globalThis.navigator?.locks;
  const send = (shared ? together : alone)(base, options, hear);
  return { want: (want) => send({ want }), leave: () => send({ leave: true }), wake: () => send({ wake: true }) };
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
  return (message) => feed.take(hear, message);
}

/**
 * Tabs share a worker, or a tab leads. Either may be stopped by a dialog, in WebKit a worker by that of any tab: who gets
 * no answer goes on in another group, which a tab leads.
 */
function together(base, options, hear) {
  const tab = crypto.randomUUID();
  const held = hold(tab); // before it is named to anybody, who would take it for gone
  let group = options.worker === false || typeof SharedWorker === "undefined" ? 1 : 0;
  let send, wanted, beats, answered;

  function enter() {
    const mine = group;
    const heard = (said) => {
      if (mine !== group) return;
      answered = true;
      if (!said.pong) hear(said);
    };
    try {
      send = (group ? led : worker)([base, options, group], heard, tab, held);
    } catch {
      group++; // the page is of another origin
      enter();
    }
  }

  function beat() {
    if (answered) send({ ping: true });
    else {
      send({ leave: true });
      group++;
      enter();
      send(wanted);
    }
    answered = false;
  }

  enter();
  return (message) => {
    if (message.leave) beats = clearInterval(beats);
    if (message.want) wanted = message;
    if (message.want && !beats) {
      answered = false;
      beats = setInterval(beat, options.heartbeat ?? DEFAULTS.heartbeat);
    }
    send(message);
  };
}

function worker([base, options], hear, tab, held) {
  const { port } = new SharedWorker(new URL("./worker.js", import.meta.url), { type: "module", name: "gateway" });
  const send = (message) => held.then(() => port.postMessage(message));
  port.onmessage = ({ data }) => hear(data);
  send({ open: { base, options, tab } });
  return send;
}

/** The tab that has the lock leads, who waited longest is next; all that is said goes by a channel. */
function led([base, options, group], hear, tab, held) {
  const name = `gateway ${JSON.stringify([base, options, group])}`;
  const channel = new BroadcastChannel(name);
  let wanted = null; // what this tab wants, for a leader that comes later
  let lead = null; // the feed, where this tab leads
  const posts = new Map(); // by tab: how the leader posts to it

  function take({ from, ...message }) {
    if (!posts.has(from)) {
      posts.set(from, from === tab ? hear : (said) => channel.postMessage({ to: from, said }));
      untilLeft(from).then(() => (lead.leave(posts.get(from)), posts.delete(from)));
    }
    lead.take(posts.get(from), message);
  }

  async function send(message) {
    await held;
    if (lead) take({ from: tab, ...message });
    else channel.postMessage({ from: tab, ...message });
  }

  channel.onmessage = ({ data }) => {
    if (data.to === tab) hear(data.said);
    else if (data.hello && wanted) send(wanted);
    else if (data.from && lead) take(data);
  };
  hold(name).then(() => {
    lead = new Feed(base, options);
    channel.postMessage({ hello: true });
    if (wanted) send(wanted);
  });
  return (message) => {
    if (message.want) wanted = message;
    if (message.leave) wanted = null;
    return send(message);
  };
}
