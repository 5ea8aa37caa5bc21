// A virtual list: only the visible rows are in the document.
//
// The rows are a few dozen elements, which are moved and refilled as the list is scrolled.  New records go on top; a list
// that is scrolled down keeps its position.
import { clock, el, milliseconds, visible } from "./dom.js";

export const MAX_RECORDS = 50_000;
const SPARE = 6;
const MARKS = { accepted: "✓", duplicate: "≡", rejected: "✕", quarantined: "⚠" };

export const keyOf = (row) => `${row.part}/${row.seq}`;

export class List {
  /** `onChoose(row)` when a row is opened, `onNearEnd()` when the end comes into view, `onScroll()` when it moves;
   *  `isOpen()` is whether a row is open beside the list. */
  constructor(viewport, rows, { onChoose, onNearEnd, onScroll, isOpen }) {
    this.viewport = viewport;
    this.holder = rows;
    this.onChoose = onChoose;
    this.onNearEnd = onNearEnd;
    this.onScroll = onScroll;
    this.isOpen = isOpen;
    this.records = [];
    this.slots = [];
    this.chosen = null;
    this.waiting = false;
    viewport.addEventListener("scroll", () => this.draw(), { passive: true });
    viewport.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.measure()).observe(viewport);
    this.measure();
  }

  get isAtTop() {
    return this.viewport.scrollTop < this.height / 2;
  }

  clear() {
    this.records = [];
    this.viewport.scrollTop = 0;
    this.draw();
  }

  prepend(records) {
    const stay = !this.isAtTop;
    this.records = records.concat(this.records);
    if (this.records.length > MAX_RECORDS) this.records.length = MAX_RECORDS;
    this.size();
    if (stay) this.viewport.scrollTop += records.length * this.height;
    this.draw();
  }

  append(records) {
    this.records = this.records.concat(records).slice(0, MAX_RECORDS);
    this.draw();
  }

  get isFull() {
    return this.records.length >= MAX_RECORDS;
  }

  /** Select the record that is so many rows below the selected one, and return it. */
  step(rows) {
    const at = this.indexOf(this.chosen);
    const to = at < 0 ? 0 : Math.min(Math.max(at + rows, 0), this.records.length - 1);
    this.mark(keyOf(this.records[to]));
    return this.records[to];
  }

  /** Select the record of a key, and scroll to it if it is in the list. */
  mark(key) {
    this.chosen = key;
    const index = this.indexOf(key);
    if (index >= 0) this.show(index);
    this.draw();
  }

  toTop() {
    this.viewport.scrollTop = 0;
    this.draw();
  }

  key(event) {
    const moves = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: 15, PageUp: -15, Home: -Infinity, End: Infinity };
    if (event.ctrlKey || event.metaKey || event.altKey || !this.records.length) return;
    if (event.key === "Enter" && this.chosen !== null) {
      const row = this.records[this.indexOf(this.chosen)];
      if (row) this.onChoose(row);
    } else if (event.key in moves) {
      const row = this.step(moves[event.key]);
      if (this.isOpen() && (event.key === "j" || event.key === "k")) this.onChoose(row);
    } else return;
    event.preventDefault();
  }

  indexOf(key) {
    return key === null ? -1 : this.records.findIndex((row) => keyOf(row) === key);
  }

  show(index) {
    const top = index * this.height;
    const { scrollTop, clientHeight } = this.viewport;
    if (top < scrollTop) this.viewport.scrollTop = top;
    else if (top + this.height > scrollTop + clientHeight) this.viewport.scrollTop = top + this.height - clientHeight;
  }

  /** Read the height of the rows, which depends on the width; the row at the top stays there. */
  measure() {
    const height = parseFloat(getComputedStyle(this.viewport).getPropertyValue("--row")) || 34;
    if (height !== this.height) {
      const top = this.height ? this.viewport.scrollTop / this.height : 0;
      this.height = height;
      this.size();
      this.viewport.scrollTop = top * height;
    }
    this.draw();
  }

  size() {
    this.holder.style.height = `${this.records.length * this.height}px`;
  }

  /** Draw with the next frame, once, however often it is called. */
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.drawNow();
    });
  }

  drawNow() {
    this.size();
    const { scrollTop, clientHeight } = this.viewport;
    const first = Math.max(Math.floor(scrollTop / this.height) - SPARE, 0);
    const last = Math.min(Math.ceil((scrollTop + clientHeight) / this.height) + SPARE, this.records.length);
    const needed = Math.ceil(clientHeight / this.height) + 2 * SPARE + 2;
    while (this.slots.length < needed) this.slots.push(this.makeSlot());
    const used = new Set();
    for (let index = first; index < last; index++) {
      const slot = this.slots[index % this.slots.length];
      used.add(slot);
      this.fill(slot, index);
    }
    for (const slot of this.slots) if (!used.has(slot)) slot.element.hidden = true;
    const marked = this.slots.find((slot) => used.has(slot) && slot.key === this.chosen);
    if (marked) this.viewport.setAttribute("aria-activedescendant", marked.element.id);
    else this.viewport.removeAttribute("aria-activedescendant");
    if (last >= this.records.length - 30) this.onNearEnd();
    this.onScroll();
  }

  makeSlot() {
    const names = ["at", "outcome", "source", "type", "name", "user", "codes"];
    const cells = Object.fromEntries(names.map((name) => [name, el("span", { class: name })]));
    const fraction = el("span", { class: "ms" });
    const element = el("div", { class: "row", role: "option", id: `slot-${this.slots.length}` }, ...Object.values(cells));
    const slot = { element, cells, fraction, key: null, row: null };
    element.addEventListener("click", () => {
      this.mark(slot.key);
      this.onChoose(slot.row);
    });
    this.holder.append(element);
    return slot;
  }

  fill(slot, index) {
    const row = this.records[index];
    const { element, cells } = slot;
    element.hidden = false;
    element.style.transform = `translateY(${index * this.height}px)`;
    element.setAttribute("aria-posinset", index + 1);
    element.setAttribute("aria-setsize", this.records.length);
    const key = keyOf(row);
    element.setAttribute("aria-selected", key === this.chosen);
    if (slot.row === row) return;
    slot.row = row;
    slot.key = key;
    element.className = `row ${row.outcome}`;
    slot.fraction.textContent = milliseconds(new Date(row.at));
    cells.at.replaceChildren(clock(row.at, { millis: false }), slot.fraction);
    cells.outcome.textContent = `${MARKS[row.outcome]} ${row.outcome}`;
    cells.source.textContent = visible(row.source ?? "");
    cells.type.textContent = visible(row.type ?? "");
    cells.name.textContent = visible(row.name ?? "");
    cells.user.textContent = visible(row.user ?? "");
    cells.codes.title = row.codes.join(", ");
    cells.codes.textContent = row.codes.map(visible).join(", ") + (row.path ? ` at ${visible(row.path)}` : "");
  }
}
