// The filters: the fields, the parameters of the address, and what is asked of the server, by the same names.
import { byId, clock, count, el, visible } from "./dom.js";
import * as api from "./api.js";

const PARTS = ["messages", "duplicates", "rejected", "quarantine"];
const FIELDS = ["user", "event", "text", "path", "source", "type", "concern", "code"];
const TIMES = ["since", "until"];
const DELIVERIES = { selected: "to", not_selected: "not to", waiting: "waits for", dead_letter: "dead letter of" };
const ANSWERS = 20; // of the server, until all names are counted

const field = (name) => byId(`filter-${name}`);
const boxes = () => [...byId("parts").querySelectorAll("input")];

/** The values of all filters, as parameters of a request; a filter that is not set is empty. */
export function wanted() {
  const parts = boxes().filter((box) => box.checked).map((box) => box.name);
  const [delivery, destination] = split(field("delivery").value);
  return {
    parts: parts.length === PARTS.length ? "" : parts.join(",") || "none",
    ...Object.fromEntries(FIELDS.map((name) => [name, name === "text" ? field(name).value : field(name).value.trim()])),
    delivery,
    destination,
    ...Object.fromEntries(TIMES.map((name) => [name, asInstant(field(name).value)])),
  };
}

export const isFiltered = () => Object.values(wanted()).some(Boolean);

/** Set filters to values, as in `wanted`; those that are not named stay as they are. */
export function setFilters(values) {
  if ("parts" in values) {
    const shown = values.parts ? values.parts.split(",") : PARTS;
    boxes().forEach((box) => (box.checked = shown.includes(box.name)));
  }
  for (const name of FIELDS) if (name in values) setField(name, values[name]);
  for (const name of TIMES) if (name in values) field(name).value = asLocal(values[name]);
  if ("destination" in values) {
    const { destination, delivery } = values;
    setField("delivery", destination ? `${delivery in DELIVERIES ? delivery : "selected"}:${destination}` : "");
  }
}

function setField(name, value) {
  const found = field(name);
  if (value && found.matches("select") && ![...found.options].some((option) => option.value === value)) {
    found.append(el("option", { value }, name === "delivery" ? deliveryText(value) : visible(value)));
  }
  found.value = value;
}

export function readAddress() {
  const given = new URLSearchParams(location.search);
  const names = ["parts", ...FIELDS, ...TIMES, "destination", "delivery"];
  setFilters(Object.fromEntries(names.map((name) => [name, given.get(name) ?? ""])));
}

/** Write the filters into the address, beside the message that is open. */
export function writeAddress() {
  const set = Object.entries(wanted()).filter(([, value]) => value);
  const search = set.length ? `?${new URLSearchParams(set)}` : "";
  if (search !== location.search) history.replaceState(null, "", location.pathname + search + location.hash);
}

export function offerChoices({ sources, codes, destinations }) {
  offer(field("source"), sources.map((name) => [name, visible(name)]));
  offer(field("code"), Object.entries(codes).map(([code, title]) => [code, code, title]));
  byId("delivery-filter").hidden = destinations.length === 0;
  offer(field("delivery"), destinations.flatMap(({ name, isDelivered }) =>
    Object.keys(DELIVERIES).slice(0, isDelivered ? 4 : 2).map((delivery) => [`${delivery}:${name}`, deliveryText(`${delivery}:${name}`)]),
  ));
}

function offer(select, choices) {
  const known = new Set([...select.options].map((option) => option.value));
  select.append(...choices.filter(([value]) => !known.has(value)).map(([value, text, title]) => el("option", { value, title }, text)));
}

const split = (value) => (value ? [value.slice(0, value.indexOf(":")), value.slice(value.indexOf(":") + 1)] : ["", ""]);

function deliveryText(value) {
  const [delivery, destination] = split(value);
  return `${DELIVERIES[delivery]} ${visible(destination)}`;
}

// A field has the viewer's time, the address the instant: it means the same in another time zone.

function asInstant(local) {
  const time = new Date(local);
  return local && !Number.isNaN(time.valueOf()) ? time.toISOString() : "";
}

function asLocal(instant) {
  const time = new Date(instant);
  if (!instant || Number.isNaN(time.valueOf())) return "";
  return new Date(time - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

// Suggestions of events, with how many of the newest messages each has

const suggested = new Set();

export async function suggestEvents() {
  const text = field("event").value;
  for (let answer = 0; answer < ANSWERS; answer++) {
    let found;
    try {
      found = await api.names(text);
    } catch {
      return; // the list shows that the server does not answer
    }
    if (field("event").value !== text) return;
    const of = `of the newest ${count(found.counted)}`;
    const options = found.names.map(([value, times]) => el("option", { value, label: `${visible(value)} · ${count(times)} ${of}` }));
    byId("event-names").replaceChildren(...options);
    found.names.forEach(([name]) => suggested.add(name));
    if (!found.isPartial || document.activeElement !== field("event")) return;
  }
}

/** Whether an input changes the list now: a name that is being typed does not, until it is one that exists. */
export const isComplete = (event) =>
  event.type !== "input" || event.target !== field("event") || !event.target.value || suggested.has(event.target.value);

/** A sentence about the filters that are set, for an empty list. */
export function describeNothing() {
  const { event, since, until } = wanted();
  const whole = event ? " An event matches by its whole name, with case." : "";
  const range = since || until ? ` Between ${since ? clock(since, { millis: false }) : "the start"} and ${until ? clock(until, { millis: false }) : "now"}.` : "";
  return `No record in the log matches the filters.${range}${whole}`;
}
