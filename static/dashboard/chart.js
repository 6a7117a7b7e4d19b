// Small charts: a minute of values, one a second; and progress over time.

import { attribute, draw, make, say } from "./dom.js";

const WIDTH = 240;
const HEIGHT = 40;

const canvas = () => draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });

/** Bars for 60 values; where a value is null there is none. */
export class MinuteChart {
  constructor(host, name) {
    this.name = name;
    this.svg = canvas();
    this.bars = this.svg.appendChild(draw("path", { class: "bars" }));
    this.figure = make("span", { className: "figure" });
    host.append(make("p", {}, make("span", { className: "name" }, name), this.figure), this.svg);
  }

  show(values, text) {
    const most = Math.max(1e-9, ...values.map((value) => value ?? 0));
    const step = WIDTH / values.length;
    const bar = (value, place) => {
      const height = Math.max(1.5, (value / most) * (HEIGHT - 2));
      return `M${(place * step).toFixed(1)} ${HEIGHT}v-${height.toFixed(1)}h${(step - 1).toFixed(1)}V${HEIGHT}z`;
    };
    attribute(this.bars, "d", values.map((value, place) => (value ? bar(value, place) : "")).join(""));
    attribute(this.svg, "aria-label", `${this.name}, the last minute: ${text}`);
    say(this.figure, text);
  }
}

/** Progress in steps, from the first change that is kept to the last. */
export class ProgressChart {
  constructor(host) {
    this.svg = canvas();
    this.area = this.svg.appendChild(draw("path", { class: "area" }));
    this.line = this.svg.appendChild(draw("path", { class: "line" }));
    host.append(this.svg);
  }

  show(changes) {
    const start = changes[0]?.at ?? 0;
    const length = Math.max(1, (changes.at(-1)?.at ?? 0) - start);
    const x = (at) => (((at - start) / length) * WIDTH).toFixed(1);
    const y = (progress) => (HEIGHT - 2 - (progress / 100) * (HEIGHT - 4)).toFixed(1);
    let path = changes.length ? `M0 ${y(changes[0].progress)}` : "";
    for (const { at, progress } of changes) path += `H${x(at)}V${y(progress)}`;
    if (path) path += `H${WIDTH}`;
    attribute(this.line, "d", path);
    attribute(this.area, "d", path && `${path}V${HEIGHT}H0z`);
    const now = changes.at(-1)?.progress ?? 0;
    attribute(this.svg, "aria-label", `Progress over ${changes.length} changes, now ${now} %`);
  }
}
