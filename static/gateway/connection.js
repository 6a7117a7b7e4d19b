// One connection that is always there: the best transport that works, resumed by cursor.

import { longPoll, pause, poll, sse, websocket } from "./transports.js";

const LADDER = [
  { name: "sse", open: sse },
  { name: "websocket", open: websocket },
  { name: "long-poll", open: longPoll },
  { name: "poll", open: poll },
];

export const DEFAULTS = {
  heartbeat: 15_000,
  opens: 5_000, // without a first byte until then, something between buffers
  retry: 500,
  longest: 10_000,
  better: 5_000,
  transports: LADDER.map(({ name }) => name),
};

export class Connection {
  /** `tell` gets what transports yield, `say` how it stands. */
  constructor(base, tell, say, options = {}) {
    this.base = base;
    this.tell = tell;
    this.say = say;
    this.options = { ...DEFAULTS, ...options };
    this.ladder = LADDER.filter(({ name }) => this.options.transports.includes(name));
  }

  /** Follows these ids, or all (null), from a snapshot on. */
  follow(ids) {
    this.stop();
    this.stopping = new AbortController();
    this.run({ base: this.base, ids, cursor: "", token: this.options.token }, this.stopping.signal);
  }

  stop() {
    this.stopping?.abort();
    this.stands = undefined;
  }

  state(state) {
    const { status, transport, retryAt } = this.stands ?? {};
    if (status === state.status && transport === state.transport && retryAt === state.retryAt) return;
    this.say((this.stands = state));
  }

  /** Tries again now. */
  wake() {
    this.waiting?.abort();
  }

  async run(query, signal) {
    const { retry, longest } = this.options;
    let rung = 0;
    let failures = 0;
    this.better = this.options.better;
    while (!signal.aborted) {
      if (!failures) this.state({ status: "connecting", transport: this.ladder[rung].name });
      const { synced, after, to, reason } = await this.attempt(query, rung, signal);
      if (signal.aborted) return;
      if (synced) failures = 0;
      rung = to ?? (synced ? rung : (rung + 1) % this.ladder.length);
      if (to !== undefined || (!synced && rung)) continue; // the next one at once, until all have failed
      const delay = (after ?? Math.min(longest, retry * 2 ** failures)) * (0.5 + Math.random());
      failures += 1;
      this.state({ status: "reconnecting", retryAt: Date.now() + delay, reason });
      this.waiting = new AbortController();
      await pause(delay, AbortSignal.any([signal, this.waiting.signal]));
      rung = 0;
    }
  }

  /** One connection to its end: whether it was up to date, and where to go on. */
  async attempt(query, rung, signal) {
    const { name, open } = this.ladder[rung];
    const whole = name.includes("poll") ? "polling" : "live";
    const ending = new AbortController();
    const both = AbortSignal.any([signal, ending.signal]);
    const result = { synced: false };
    const cut = this.watchdog(ending);
    const climbing = rung ? this.climb(query, rung, both).then((to) => ending.abort((result.to = to))) : null;
    try {
      for await (const said of open(query, both, this.options.heartbeat)) {
        if (both.aborted) break; // a late answer
        cut(2 * this.options.heartbeat);
        if (said.retry) result.after = said.retry;
        if (said.cursor) query.cursor = said.cursor;
        if (said.event === "reset") query.cursor = "";
        const status = { synced: whole, fresh: whole, stale: "stale" }[said.event];
        if (said.event === "synced") result.synced = true;
        if (status && !rung) this.better = this.options.better;
        if (status || !result.synced) this.state({ status: status ?? "catching up", transport: name });
        if (said.task || said.event) this.tell(said);
      }
    } catch (error) {
      result.reason = String(error); // refused, cut or unreachable: all the same to who tries again
    } finally {
      cut(0);
      ending.abort();
      await climbing;
    }
    return result;
  }

  /** Ends a connection that gives no sign of life. */
  watchdog(ending) {
    const end = () => ending.abort();
    let timer = setTimeout(end, this.options.opens);
    return (milliseconds) => {
      clearTimeout(timer);
      if (milliseconds) timer = setTimeout(end, milliseconds);
    };
  }

  /** Tries better transports beside the one in use; gives the one that answered. */
  async climb(query, rung, signal) {
    while (!signal.aborted) {
      await pause(this.better, signal);
      this.better = Math.min(60_000, 2 * this.better);
      for (let better = 0; better < rung && !signal.aborted; better++) {
        if (await this.answers({ ...query }, better, signal)) return better;
      }
    }
  }

  async answers(query, rung, signal) {
    const trying = new AbortController();
    const cut = this.watchdog(trying);
    try {
      for await (const said of this.ladder[rung].open(query, AbortSignal.any([signal, trying.signal]), 1e9)) {
        if (said.event === "synced") return true;
      }
    } catch {
      // not yet
    } finally {
      cut(0);
      trying.abort();
    }
    return false;
  }
}
