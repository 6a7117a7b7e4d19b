// A JSON value as folded elements. A new value changes only what differs, so that folds and selections stay.

import { make, say } from "./dom.js";

const MOST_MEMBERS = 500; // of one object or list

const isNest = (value) => typeof value === "object" && value !== null;
const kind = (value) => (Array.isArray(value) ? "list" : value === null ? "null" : typeof value);
const shape = (value) => (isNest(value) ? `${kind(value)} ${Object.keys(value).join("\n")}` : "leaf");

export class Tree {
  constructor(host) {
    this.host = host;
  }

  show(value) {
    if (this.root?.value === value) return;
    if (this.root && fits(this.root, value)) return refresh(this.root, value);
    this.root = build("", value, 0);
    this.host.replaceChildren(this.root.element);
  }

  clear() {
    this.root = undefined;
    this.host.replaceChildren();
  }
}

const fits = (node, value) => node.shape === shape(value);

function build(name, value, depth) {
  return isNest(value) ? nest(name, value, depth) : leaf(name, value);
}

function leaf(name, value) {
  const text = make("span", {});
  const element = make("div", { className: "leaf" }, label(name), text);
  const node = { element, text, name, shape: "leaf" };
  refresh(node, value);
  return node;
}

function nest(name, value, depth) {
  const all = Object.entries(value);
  const members = all.slice(0, MOST_MEMBERS).map(([key, inner]) => build(key, inner, depth + 1));
  const size = make("span", { className: "size" }, sizeOf(value, all.length));
  const element = make("details", { open: depth < 2 && all.length <= 50 }, make("summary", {}, label(name), size));
  element.append(...members.map((member) => member.element));
  const more = all.length - MOST_MEMBERS;
  if (more > 0) element.append(make("div", { className: "leaf" }, `… ${more} more`));
  return { element, members, name, depth, value, shape: shape(value) };
}

const sizeOf = (value, size) => (Array.isArray(value) ? `[${size}]` : `{${size}}`);

const label = (name) => make("span", { className: "name" }, name === "" ? "" : `${name}: `);

/** A node takes a value of the same shape. */
function refresh(node, value) {
  node.value = value;
  if (node.shape === "leaf") {
    node.text.className = kind(value);
    return say(node.text, JSON.stringify(value));
  }
  Object.values(value).slice(0, MOST_MEMBERS).forEach((inner, place) => {
    const member = node.members[place];
    if (fits(member, inner)) return refresh(member, inner);
    const other = build(member.name, inner, node.depth + 1);
    member.element.replaceWith(other.element);
    node.members[place] = other;
  });
}
