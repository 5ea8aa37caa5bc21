// JSON as a collapsible tree.  Collapsed parts are not in the document, so a large message costs only its visible part.
import { count, el, visible } from "./dom.js";

const LONG = 400;
const MANY = 100;

/** The source text of a number that JavaScript would round or write differently. */
class Exact {
  constructor(text) {
    this.text = text;
  }
}

/** Parse JSON without losing digits, if the browser provides the source text of numbers. */
export function parseExactly(text) {
  return JSON.parse(text, (key, value, context) =>
    typeof value === "number" && context?.source !== undefined && String(value) !== context.source
      ? new Exact(context.source)
      : value,
  );
}

export function tree(value) {
  return el("div", { class: "tree" }, node(null, value, 0));
}

function node(key, value, depth) {
  const label = key === null ? null : el("span", { class: "key" }, visible(key));
  const isArray = Array.isArray(value);
  if (!isArray && (value === null || typeof value !== "object" || value instanceof Exact)) {
    return el("div", { class: "leaf" }, label, leaf(value));
  }
  const entries = Object.entries(value);
  const size = isArray ? `[${count(entries.length)}]` : `{${count(entries.length)}}`;
  const details = el("details", {}, el("summary", {}, label, el("span", { class: "size" }, size)));
  let isFilled = false;
  const fill = () => {
    if (isFilled || !details.open) return;
    isFilled = true;
    more(details, entries, depth, 0);
  };
  details.addEventListener("toggle", fill);
  details.open = depth < 2 && entries.length <= MANY;
  fill();
  return details;
}

function more(parent, entries, depth, from) {
  parent.append(...entries.slice(from, from + MANY).map(([key, value]) => node(key, value, depth + 1)));
  const rest = entries.length - from - MANY;
  if (rest > 0) {
    const button = el("button", { class: "more", type: "button" }, `${count(rest)} more`);
    button.addEventListener("click", () => {
      button.remove();
      more(parent, entries, depth, from + MANY);
    });
    parent.append(button);
  }
}

function leaf(value) {
  if (value instanceof Exact) return el("span", { class: "number" }, value.text);
  if (typeof value !== "string") return el("span", { class: value === null ? "null" : typeof value }, String(value));
  const text = el("span", { class: "string", dir: "auto" }, visible(value.slice(0, LONG)));
  if (value.length <= LONG) return text;
  const button = el("button", { class: "more", type: "button" }, `… all ${count(value.length)} characters`);
  button.addEventListener("click", () => {
    text.textContent = visible(value);
    button.remove();
  });
  return el("span", {}, text, button);
}
