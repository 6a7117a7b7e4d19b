// What is looked at, as the part of the address behind the #. Pure.

import { SORTS } from "./order.js";
import { STATUSES } from "./status.js";

const NOTHING = { task: "", status: "", search: "", sort: "newest" };

/** Reads `#task=…&status=running&search=…&sort=id`. What is not understood is left out. */
export function parse(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const status = given.get("status") ?? "";
  const sort = given.get("sort") ?? "";
  return {
    task: given.get("task") ?? "",
    status: STATUSES.includes(status) ? status : "",
    search: given.get("search") ?? "",
    sort: Object.hasOwn(SORTS, sort) ? sort : NOTHING.sort,
  };
}

/** The shortest that says the same; "#" for nothing. */
export function compose(looked) {
  const said = new URLSearchParams();
  for (const [name, usual] of Object.entries(NOTHING)) {
    if (looked[name] !== usual) said.set(name, looked[name]);
  }
  return `#${said}`;
}
