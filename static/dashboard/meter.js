// Events a second, write-to-screen latency, and what painting costs, each of the last minute. Pure: told the time.

const SECONDS = 60;
const MOST_WAITING = 5_000;

/** The value that this share of the others is below. */
export function quantile(values, share) {
  if (!values.length) return null;
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

const nothing = (second) => ({ second, events: 0, latencies: [], paints: [], long: 0 });

export class Meter {
  constructor() {
    this.seconds = []; // newest last
    this.waiting = []; // times of writes that are not painted yet
  }

  #now(now) {
    const second = Math.floor(now / 1000);
    if (this.seconds.at(-1)?.second !== second) {
      this.seconds.push(nothing(second));
      if (this.seconds.length > SECONDS + 1) this.seconds.shift();
    }
    return this.seconds.at(-1);
  }

  event(written, now) {
    this.#now(now).events += 1;
    if (this.waiting.length < MOST_WAITING) this.waiting.push(written); // a hidden page does not paint
  }

  /** What the frame that is made now will show. */
  take() {
    return this.waiting.splice(0);
  }

  /** The frame that shows these is on the screen, and took so long to make. */
  painted(shown, milliseconds, now) {
    const current = this.#now(now);
    current.paints.push(milliseconds);
    for (const written of shown) current.latencies.push(Math.max(0, now - written));
  }

  /** What waited while nobody could see it says nothing about latency. */
  skip() {
    this.waiting.length = 0;
  }

  long(now) {
    this.#now(now).long += 1;
  }

  /** The last 60 whole seconds, oldest first: events, and the median latency or null. */
  series(now) {
    const by = new Map(this.seconds.map((one) => [one.second, one]));
    const last = Math.floor(now / 1000) - 1;
    const all = Array.from({ length: SECONDS }, (_, place) => by.get(last - SECONDS + 1 + place) ?? nothing(0));
    return { events: all.map((one) => one.events), latency: all.map((one) => quantile(one.latencies, 0.5)) };
  }

  /** The whole minute at once. */
  summary(now) {
    const since = Math.floor(now / 1000) - SECONDS;
    const recent = this.seconds.filter((one) => one.second >= since);
    const paints = recent.flatMap((one) => one.paints);
    const latencies = recent.flatMap((one) => one.latencies);
    return {
      paint: quantile(paints, 0.5),
      paint95: quantile(paints, 0.95),
      paints: paints.length,
      latency: quantile(latencies, 0.5),
      latency95: quantile(latencies, 0.95),
      long: recent.reduce((sum, one) => sum + one.long, 0),
    };
  }
}
