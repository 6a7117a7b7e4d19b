// The list, of which only the rows in view exist. The row with the focus exists wherever it is.

import { Row } from "./row.js";

const BEYOND = 4; // rows above and below the view, so that scrolling does not show gaps

const median = (numbers) => numbers.sort((a, b) => a - b)[numbers.length >> 1] ?? 0;

export class List {
  constructor(board, paintSoon) {
    this.board = board;
    this.scroller = document.getElementById("scroller");
    this.list = document.getElementById("tasks");
    this.probe = this.scroller.querySelector(".probe");
    this.rows = new Map(); // by id
    this.spare = [];
    this.current = ""; // the id that the keyboard is at
    this.wanted = ""; // the id to scroll to as soon as it has a row
    this.shown = []; // [id, place] of the last paint
    this.measure();
    this.scroller.addEventListener("scroll", paintSoon, { passive: true });
    this.list.addEventListener("focusin", ({ target }) => this.#focused(target, paintSoon));
    new ResizeObserver(() => {
      this.measure();
      paintSoon();
    }).observe(this.scroller);
  }

  /** Sizes are read when they change, not when painting: that would lay out twice. */
  measure() {
    this.height = this.probe.offsetHeight || 44;
    this.view = this.scroller.clientHeight;
    this.above = this.list.offsetTop;
  }

  #focused(target, paintSoon) {
    const row = target.closest("li");
    for (const [id, { element }] of this.rows) if (element === row) this.current = id;
    paintSoon();
  }

  render(now, open, moved) {
    const { items } = this.board.order;
    let top = this.scroller.scrollTop;
    const shift = moved && top > 0 ? this.#shift() * this.height : 0;
    this.list.style.setProperty("height", `${items.length * this.height}px`);
    if (shift) this.scroller.scrollTop = top = Math.max(0, top + shift);
    if (this.wanted && this.view && this.board.order.places.has(this.wanted)) top = this.#reach();
    const first = Math.max(0, Math.floor(top / this.height) - BEYOND);
    const last = Math.min(items.length, Math.ceil((top + this.view) / this.height) + BEYOND);
    const places = [];
    for (let place = first; place < last; place++) places.push(place);
    this.#withCurrent(places);
    this.#recycle(new Set(places.map((place) => items[place].id)));
    const tabbed = places.some((place) => items[place].id === this.current) ? this.current : items[places[0]]?.id;
    this.shown = places.map((place) => {
      const { id } = items[place];
      const row = this.#row(id);
      const how = { place, size: items.length, height: this.height, now, current: id === tabbed, open: id === open };
      row.fill(this.board.entries.get(id), how);
      return [id, place];
    });
    this.#arrange();
  }

  #withCurrent(places) {
    const place = this.board.order.indexOf(this.current);
    if (place < 0 || places.includes(place)) return;
    if (place < places[0]) places.unshift(place);
    else places.push(place);
  }

  #recycle(needed) {
    for (const [id, row] of this.rows) {
      if (needed.has(id)) continue;
      this.rows.delete(id);
      this.spare.push(row);
    }
  }

  #row(id) {
    let row = this.rows.get(id);
    if (!row) this.rows.set(id, (row = this.spare.pop() ?? new Row()));
    return row;
  }

  /** Elements in the order of the rows, as readers read them; the one with the focus is not moved, it would lose it. */
  #arrange() {
    for (const row of this.spare) row.element.remove();
    let next = this.list.firstElementChild;
    for (const [id] of this.shown) {
      const { element } = this.rows.get(id);
      if (element !== next && element.contains(document.activeElement)) {
        while (next !== element) {
          const after = next.nextElementSibling;
          this.list.append(next);
          next = after;
        }
      }
      if (element === next) next = next.nextElementSibling;
      else this.list.insertBefore(element, next);
    }
  }

  /** By how many rows what is in view moved: rows that come and go above it are not to push it away. */
  #shift() {
    const shifts = [];
    for (const [id, place] of this.shown) {
      const now = this.board.order.indexOf(id);
      if (now >= 0) shifts.push(now - place);
    }
    return median(shifts);
  }

  #reach() {
    this.#reveal(this.board.order.indexOf(this.wanted));
    this.wanted = "";
    return this.scroller.scrollTop;
  }

  /** After a filter or a search: from the top, unless the keyboard's row is still there. */
  begin() {
    this.shown = [];
    this.scroller.scrollTop = 0;
  }

  /** Takes the keyboard's row `by` rows further. */
  move(by) {
    const { order } = this.board;
    if (!order.length) return;
    const place = order.indexOf(this.current);
    this.goTo(place < 0 ? 0 : place + by);
  }

  goTo(place) {
    const { order } = this.board;
    if (!order.length) return;
    const kept = Math.min(order.length - 1, Math.max(0, place));
    this.current = order.items[kept].id;
    this.#reveal(kept);
  }

  get page() {
    return Math.max(1, Math.floor((this.view - this.above) / this.height) - 1);
  }

  #reveal(place) {
    const top = place * this.height; // the columns' heads stick, and cover `above`
    const { scroller } = this;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    const bottom = top + this.height + this.above - this.view;
    if (bottom > scroller.scrollTop) scroller.scrollTop = bottom;
  }

  /** The focus goes to the keyboard's row, which a render has made. */
  focus() {
    const row = this.rows.get(this.current) ?? this.rows.values().next().value;
    row?.link.focus({ preventScroll: true });
  }
}
