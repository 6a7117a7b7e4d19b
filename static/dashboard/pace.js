// How fast a task moves, and when it will be done. Pure.

const MEMORY = 30_000; // what lies further back than this many milliseconds counts little

/**
 * Progress and time, both fading by the same factor: their quotient is the rate of the last half minute or so,
 * however many changes a second there are.
 */
export class Pace {
  constructor(progress, at) {
    this.restart(progress, at);
  }

  restart(progress, at) {
    this.progress = progress;
    this.at = at;
    this.gained = 0;
    this.passed = 0;
  }

  /** A later state. One that goes back in progress is a new beginning. */
  add(progress, at) {
    const passed = at - this.at;
    if (progress < this.progress) return this.restart(progress, at);
    if (passed <= 0) return;
    const fade = Math.exp(-passed / MEMORY);
    this.gained = this.gained * fade + (progress - this.progress);
    this.passed = this.passed * fade + passed;
    this.progress = progress;
    this.at = at;
  }

  /** Percent a second, or null while nothing moved. */
  get rate() {
    return this.gained > 0 && this.passed > 0 ? (this.gained / this.passed) * 1000 : null;
  }

  /** When 100 % will be reached, in epoch milliseconds, or null. */
  get end() {
    const { rate } = this;
    return rate ? this.at + ((100 - this.progress) / rate) * 1000 : null;
  }

  /** Milliseconds left, or null: unknown, or it says nothing for so long that no guess holds. */
  left(now) {
    const { end } = this;
    if (end === null) return null;
    const silent = now - this.at;
    const late = now - end;
    return late > 30_000 || silent > 10 * MEMORY ? null : Math.max(0, end - now);
  }
}
