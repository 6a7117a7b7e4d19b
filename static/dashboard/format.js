// How numbers and times read. Pure.

/** A span of time in its largest whole unit: "8 s", "12 min", "3 h", "4 d". */
export function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 86_400 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}

/** A rate given in percent a second, in the unit that leaves digits before the point. */
export function rate(perSecond) {
  if (!(perSecond > 0)) return "–";
  if (perSecond >= 1) return `${digits(perSecond)} %/s`;
  return perSecond * 60 >= 1 ? `${digits(perSecond * 60)} %/min` : `${digits(perSecond * 3600)} %/h`;
}

/** Time left, with its sign of being a guess. */
export function left(milliseconds) {
  if (milliseconds === null) return "–";
  return milliseconds < 500 ? "soon" : `≈ ${span(milliseconds)}`;
}

/** The time of day of a change, to the tenth of a second: changes are close together. */
export function clock(epoch) {
  const date = new Date(epoch);
  const two = (number) => String(number).padStart(2, "0");
  const tenth = Math.floor(date.getMilliseconds() / 100);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${tenth}`;
}

/** The day and time of anything that may be long ago. */
export const moment = (epoch) => new Date(epoch).toLocaleString();

export const count = (number) => number.toLocaleString("en");

/** Milliseconds as a person compares them. */
export function latency(milliseconds) {
  if (milliseconds === null) return "–";
  return milliseconds < 10_000 ? `${digits(milliseconds)} ms` : span(milliseconds);
}

const digits = (number) => (number < 10 ? number.toFixed(1) : String(Math.round(number)));
