// The charts of the last minute, and what this page costs.

import { MinuteChart } from "./chart.js";
import { say } from "./dom.js";
import { count, latency } from "./format.js";

export class Footer {
  constructor(meter, list) {
    this.meter = meter;
    this.list = list;
    this.events = new MinuteChart(document.getElementById("events"), "Events a second");
    this.latency = new MinuteChart(document.getElementById("latency"), "Write to screen");
    this.performance = document.getElementById("performance");
    this.#countLongTasks();
    this.render(Date.now());
  }

  /** Tasks of the main thread over 50 ms, where the browser tells. */
  #countLongTasks() {
    if (!globalThis.PerformanceObserver?.supportedEntryTypes?.includes("longtask")) return;
    new PerformanceObserver((found) => found.getEntries().forEach(() => this.meter.long(Date.now()))).observe({
      type: "longtask",
    });
  }

  render(now) {
    const { events, latency: latencies } = this.meter.series(now);
    const all = this.meter.summary(now);
    this.events.show(events, `${count(events.at(-1))}/s, at most ${count(Math.max(...events))}`);
    const typical = `p50 ${latency(all.latency)}, p95 ${latency(all.latency95)}`;
    this.latency.show(latencies, all.latency === null ? "–" : typical);
    const rows = `${this.list.rows.size} of ${count(this.list.board.order.length)} rows`;
    const paint = `paint p50 ${latency(all.paint)}, p95 ${latency(all.paint95)}`;
    say(this.performance, `${paint} · long tasks ${all.long} · ${rows}`);
  }
}
