// The charts, drawn by hand: sixty bars need no library.  A click on a bar calls `onPick({ name, since, until })`.
import { colour } from "./colours.js";
import { clock, count, el, svg, visible } from "./dom.js";

const HEIGHT = 92;
const LEFT = 46;
const BOTTOM = 16;
const TOP = 8;
const FOLDED = 22;
const PADDING = 24; // of the figure, left and right
const SERIES = 8;
const BUCKETS = 60;
const LINE = 11; // the height of a label

const short = (value) =>
  value >= 10_000 ? `${Math.round(value / 1_000)}k` : value >= 100 ? String(Math.round(value)) : String(+value.toPrecision(2));

/** The place of a drawing: folded, it is a line without axes. */
function frame(figure, isFolded) {
  const width = isFolded ? 120 : Math.max(figure.clientWidth - PADDING, 200);
  const place = isFolded
    ? { width, height: FOLDED, left: 0, top: 1, floor: FOLDED - 1 }
    : { width, height: HEIGHT, left: LEFT, top: TOP, floor: HEIGHT - BOTTOM };
  place.step = (width - place.left) / BUCKETS;
  place.drawing = svg("svg", { width, height: place.height, viewBox: `0 0 ${width} ${place.height}`, role: "img" });
  return place;
}

/** Stacked bars: `series` maps a name to one value for each bucket, null if not counted yet. */
export function bars(figure, { title, unit, series, since, bucketSeconds, kind, isFolded, onPick, scale = 1, note = "" }) {
  const sums = Object.entries(series).map(([name, values]) => [name, values.reduce((sum, value) => sum + (value ?? 0), 0)]);
  sums.sort((one, other) => other[1] - one[1]);
  const shown = sums.slice(0, SERIES).map(([name]) => ({ name, values: series[name], colour: colour(kind, name) }));
  shown.sort((one, other) => (one.name < other.name ? -1 : 1)); // a source has its place in each bar, too
  const others = sums.slice(SERIES).map(([name]) => series[name]);
  if (others.length) {
    const values = others[0].map((_, at) => others.reduce((sum, one) => sum + (one[at] ?? 0), 0));
    shown.push({ name: null, values, colour: "others" });
  }
  const nameOf = (one) => (one.name === null ? `${others.length} others` : visible(one.name));
  const totals = Array.from({ length: BUCKETS }, (_, at) => shown.reduce((sum, one) => sum + (one.values[at] ?? 0), 0) / scale);
  const most = Math.max(...totals, 0);
  const place = frame(figure, isFolded);
  const { drawing, floor, left, step } = place;
  if (!isFolded) axes(place, most ? [[short(most), TOP], ["0", floor]] : [["0", floor]], { since, bucketSeconds });
  const rise = (floor - place.top) / (most || 1);
  for (let at = 0; at < BUCKETS; at++) {
    let y = floor;
    shown.forEach((one) => {
      const height = ((one.values[at] ?? 0) / scale) * rise;
      if (height <= 0) return;
      y -= height;
      const bar = svg("rect", { x: left + at * step + 0.5, y, width: Math.max(step - 1, 1), height, class: `column ${one.colour}` });
      bar.addEventListener("click", () => onPick({ name: one.name, ...span(since, bucketSeconds, at) }));
      drawing.append(bar);
    });
  }
  const last = totals.at(-2) ?? 0;
  drawing.setAttribute("aria-label", `${title}: ${short(last)} ${unit} last, at most ${short(most)} ${unit}`);
  const calm = most ? (isFolded ? `· ${short(last)}` : "") : "· none";
  const readout = el("output", {}, calm);
  follow(figure, place, (at) => {
    const parts = at === null ? [] : shown.filter((one) => one.values[at]).map((one) => `${nameOf(one)} ${short(one.values[at] / scale)}`);
    readout.textContent = at === null ? calm : `${timeOf(since, bucketSeconds, at)} ${parts.join(", ") || "none"}`;
  });
  const key = (one) =>
    one.name === null
      ? el("span", {}, nameOf(one))
      : el("button", { type: "button", title: `filter by ${visible(one.name)}`, click: () => onPick({ name: one.name }) }, nameOf(one));
  const legend = el("ul", { class: "legend" }, ...shown.map((one) => el("li", { class: one.colour }, key(one))));
  show(figure, { title, unit: `${unit}${note}`, readout, legend, place, isFolded });
}

/** A band from minimum to maximum, and a line for the median: `values` has [minimum, median, maximum, number] or null. */
export function band(figure, { title, unit, values, total, since, bucketSeconds, isFolded, onPick }) {
  const known = values.filter(Boolean);
  const ends = known.flatMap(([least, , largest]) => [least, largest]);
  const low = Math.min(...ends, 0);
  const high = Math.max(...ends, low > -0.1 ? 0.1 : 0);
  const place = frame(figure, isFolded);
  const { drawing, left, step } = place;
  const y = (value) => place.top + ((high - value) / (high - low)) * (place.floor - place.top);
  const x = (at) => left + (at + 0.5) * step;
  if (!isFolded) axes(place, known.length ? [high, 0, low].map((value) => [signed(value), y(value)]) : [], { since, bucketSeconds });
  drawing.append(svg("line", { x1: left, x2: place.width, y1: y(0), y2: y(0), class: "zero" }));
  let line = "";
  values.forEach((value, at) => {
    if (!value) return;
    const [least, median, largest] = value;
    const height = Math.max(y(least) - y(largest), 1);
    const bar = svg("rect", { x: left + at * step + 0.5, width: Math.max(step - 1, 1), y: y(largest), height, class: "band" });
    bar.addEventListener("click", () => onPick(span(since, bucketSeconds, at)));
    drawing.append(bar);
    line += `${line && values[at - 1] ? "L" : "M"}${x(at).toFixed(1)} ${y(median).toFixed(1)}`;
  });
  drawing.append(svg("path", { d: line || "M0 0", class: "median" }));
  const now = known.at(-1);
  drawing.setAttribute("aria-label", now ? `${title}: median ${signed(now[1])} last, from ${signed(low)} to ${signed(high)}` : `${title}: none`);
  const calm = now ? (isFolded ? `· ${signed(now[1])}` : "") : "· none";
  const readout = el("output", {}, calm);
  follow(figure, place, (at) => {
    const value = at === null ? null : values[at];
    readout.textContent = value
      ? `${timeOf(since, bucketSeconds, at)} median ${signed(value[1])}, ${signed(value[0])} to ${signed(value[2])}, of ${value[3]}`
      : calm;
  });
  const measured = known.reduce((sum, value) => sum + value[3], 0);
  const sample = el("li", { class: "bandkey" }, `minimum to maximum of ${count(measured)} of ${count(Math.round(total))} messages, up to 5 a bar`);
  const legend = el("ul", { class: "legend" }, el("li", { class: "mediankey" }, "median"), sample);
  show(figure, { title, unit, readout, legend, place, isFolded });
}

/** How far each destination is behind: `lags` has {destination, lagSeconds, waiting, isFailing, deadLetters}. */
export function delays(figure, lags, { isFolded, onPick }) {
  figure.hidden = lags.length === 0;
  const most = Math.max(...lags.map((lag) => lag.lagSeconds), 10);
  const rows = lags.map((lag) => {
    const bar = el("span", { class: lag.isFailing ? "bar failing" : "bar" });
    bar.style.width = `${Math.max((100 * lag.lagSeconds) / most, 0.5)}%`;
    const behind = lag.waiting ? `${seconds(lag.lagSeconds)}, ${count(lag.waiting)} at most` : "up to date";
    const pick = (delivery) => () => onPick({ destination: lag.destination, delivery });
    const name = el("button", { type: "button", class: "link", click: pick(lag.waiting ? "waiting" : "selected") }, visible(lag.destination));
    const dead = lag.deadLetters
      ? el("button", { type: "button", class: "link dead", click: pick("dead_letter") }, `${count(lag.deadLetters)} dead letter${lag.deadLetters === 1 ? "" : "s"}`)
      : null;
    const state = el("span", { class: "quiet" }, behind + (lag.isFailing ? ", failing" : ""));
    return el("li", {}, name, state, dead, el("span", { class: "track" }, bar));
  });
  const failing = lags.filter((lag) => lag.isFailing).length;
  const dead = lags.reduce((sum, lag) => sum + lag.deadLetters, 0);
  const calm = [failing && `${count(failing)} failing`, dead && `${count(dead)} dead`].filter(Boolean).join(", ") || "all well";
  const caption = el("figcaption", {}, el("strong", {}, "Delivery lag"), isFolded ? ` · ${calm}` : "");
  figure.replaceChildren(...[caption, isFolded ? null : el("ul", { class: "lags" }, ...rows)].filter(Boolean));
}

function show(figure, { title, unit, readout, legend, place, isFolded }) {
  const caption = el("figcaption", {}, el("strong", {}, title), isFolded ? " " : ` ${unit} `, readout);
  figure.replaceChildren(...[caption, place.drawing, isFolded ? null : legend].filter(Boolean));
}

function seconds(value) {
  const size = Math.abs(value);
  if (size < 1) return `${Math.round(value * 1_000)} ms`;
  if (size < 120) return `${+value.toPrecision(3)} s`;
  return size < 7_200 ? `${+(value / 60).toPrecision(3)} min` : `${count(+(value / 3_600).toPrecision(3))} h`;
}

/** A deviation with its sign: `+100 ms`, `0`, `-2.5 s`. */
const signed = (value) => (Math.round(value * 1_000) === 0 ? "0" : `${value > 0 ? "+" : ""}${seconds(value)}`);

const timeAt = (since, bucketSeconds, at) => Date.parse(since) + at * bucketSeconds * 1_000;
const timeOf = (since, bucketSeconds, at) => clock(timeAt(since, bucketSeconds, at), { millis: false });

function span(since, bucketSeconds, at) {
  const [from, to] = [at, at + 1].map((edge) => new Date(timeAt(since, bucketSeconds, edge)).toISOString());
  return { since: from, until: to };
}

/** Draw the axes: `labels` are [text, y], the first ones first; one that repeats another or covers it is left out. */
function axes({ drawing, width, left, floor, height }, labels, { since, bucketSeconds }) {
  const drawn = [];
  for (const [text, y] of labels) {
    if (drawn.some(([other, place]) => other === text || Math.abs(place - y) < LINE)) continue;
    drawn.push([text, y]);
    drawing.append(svg("text", { x: left - 5, y: Math.max(y + 4, 10), class: "tick end" }, text));
  }
  drawing.append(
    svg("line", { x1: left, x2: width, y1: floor, y2: floor, class: "axis" }),
    svg("text", { x: left, y: height - 3 }, timeOf(since, bucketSeconds, 0)),
    svg("text", { x: width, y: height - 3, class: "end" }, timeOf(since, bucketSeconds, BUCKETS)),
  );
}

const pointed = new WeakMap(); // of each figure: the bucket under the pointer, kept when the figure is redrawn

function follow(figure, { drawing, width, left, step, floor }, show) {
  const cursor = svg("rect", { y: 4, width: step, height: Math.max(floor - 4, 0), x: -100, class: "cursor" });
  drawing.append(cursor);
  const point = (at) => {
    pointed.set(figure, at);
    cursor.setAttribute("x", at === null ? -100 : left + at * step);
    show(at);
  };
  drawing.addEventListener("pointermove", (event) => {
    const place = drawing.getBoundingClientRect();
    const at = Math.floor(((event.clientX - place.left) * (width / place.width) - left) / step);
    if (at >= 0 && at < BUCKETS) point(at);
  });
  drawing.addEventListener("pointerleave", () => point(null));
  point(figure.matches(":hover") ? (pointed.get(figure) ?? null) : null);
}
