// Elements, made so that message content is never interpreted as markup: text is inserted only as text.

const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** Show invisible characters, and those that change the direction of text, as escapes. */
export function visible(text) {
  return String(text).replace(CONTROLS, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}

/** Make an element: `el("p", {class: "quiet"}, "text", otherElement)`. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Make an element of a drawing. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export const byId = (id) => document.getElementById(id);

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const DAY = new Intl.DateTimeFormat(undefined, { day: "2-digit", month: "short" });

/** Format a time in the viewer's time zone, with the day unless it is today. */
export function clock(text, { millis = true } = {}) {
  const time = new Date(text);
  if (Number.isNaN(time.valueOf())) return visible(text ?? "");
  const shown = CLOCK.format(time) + (millis ? milliseconds(time) : "");
  return time.toDateString() === new Date().toDateString() ? shown : `${DAY.format(time)} ${shown}`;
}

/** The fraction of the second: `.042`. */
export const milliseconds = (time) => "." + String(time.getMilliseconds()).padStart(3, "0");

export const count = (number) => number.toLocaleString("en");

/** What this browser remembers, if it has a storage. */
export function remembered(name) {
  try {
    return localStorage.getItem(`trackcore-${name}`);
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`trackcore-${name}`, value);
  } catch {
    // A browser without storage keeps it until the page is closed.
  }
}
