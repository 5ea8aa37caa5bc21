// The colour of each source and code: kept in this browser, so it never changes, whatever else is shown.
import { remember, remembered } from "./dom.js";

const COLOURS = 10;
const MOST = 500;

const stored = () => {
  try {
    return new Map(JSON.parse(remembered("colours") ?? "[]"));
  } catch {
    return new Map();
  }
};
const slots = stored();

const hash = (name) => [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) >>> 0, 7);

/** Return the class of a name: a colour that none of its kind has, as long as there is one, else one of all. */
export function colour(kind, name) {
  const key = `${kind} ${name}`;
  if (!slots.has(key)) {
    const taken = new Set([...slots].filter(([other]) => other.startsWith(`${kind} `)).map(([, slot]) => slot));
    const wanted = hash(name) % COLOURS;
    const order = Array.from({ length: COLOURS }, (_, at) => (wanted + at) % COLOURS);
    if (slots.size >= MOST) slots.delete(slots.keys().next().value);
    slots.set(key, order.find((slot) => !taken.has(slot)) ?? wanted);
    remember("colours", JSON.stringify([...slots]));
  }
  return `c${Number(slots.get(key)) % COLOURS}`;
}
