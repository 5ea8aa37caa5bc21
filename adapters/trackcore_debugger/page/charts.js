// The charts, drawn by hand: sixty bars need no library.
import { clock, count, el, svg, visible } from "./dom.js";

const HEIGHT = 92;
const LEFT = 46;
const BOTTOM = 16;
const PADDING = 24; // of the figure, left and right
const COLOURS = 6;

const short = (value) =>
  value >= 10_000 ? `${Math.round(value / 1_000)}k` : value >= 100 ? String(Math.round(value)) : String(+value.toPrecision(2));

/** Stacked bars: `series` maps a name to one value for each bucket, null if not counted yet. */
export function bars(figure, { title, unit, series, since, bucketSeconds, scale = 1, isCut = false }) {
  const sums = Object.entries(series).map(([name, values]) => [name, values.reduce((sum, value) => sum + (value ?? 0), 0)]);
  sums.sort((one, other) => other[1] - one[1]);
  const named = sums.slice(0, COLOURS).map(([name]) => name);
  const shown = named.map((name) => ({ name, values: series[name] }));
  const others = sums.slice(COLOURS).map(([name]) => series[name]);
  if (others.length) {
    shown.push({ name: `${others.length} others`, values: others[0].map((_, at) => others.reduce((sum, one) => sum + (one[at] ?? 0), 0)) });
  }
  const buckets = 60;
  const totals = Array.from({ length: buckets }, (_, at) => shown.reduce((sum, one) => sum + (one.values[at] ?? 0), 0) / scale);
  const most = Math.max(...totals, 0);
  const width = Math.max(figure.clientWidth - PADDING, 200);
  const step = (width - LEFT) / buckets;
  const drawing = svg("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img" });
  axes(drawing, width, { top: most ? short(most) : "", bottom: "0", since, bucketSeconds, buckets });
  const floor = HEIGHT - BOTTOM;
  const rise = (floor - 8) / (most || 1);
  for (let at = 0; at < buckets; at++) {
    let y = floor;
    shown.forEach((one, place) => {
      const height = ((one.values[at] ?? 0) / scale) * rise;
      if (height <= 0) return;
      y -= height;
      drawing.append(svg("rect", { x: LEFT + at * step + 0.5, y, width: Math.max(step - 1, 1), height, class: `c${place}` }));
    });
  }
  const last = totals.at(-2) ?? 0;
  drawing.setAttribute("aria-label", `${title}: ${short(last)} ${unit} last, at most ${short(most)} ${unit}`);
  const readout = el("output", {}, most ? "" : "· none");
  follow(figure, drawing, { width, step }, (at) => {
    const parts = at === null ? [] : shown.filter((one) => one.values[at]).map((one) => `${visible(one.name)} ${short(one.values[at] / scale)}`);
    readout.textContent = at === null ? (most ? "" : "· none") : `${timeOf(since, bucketSeconds, at)} ${parts.join(", ") || "none"}`;
  });
  const legend = el("ul", { class: "legend" }, ...shown.map((one, place) => el("li", { class: `c${place}` }, visible(one.name))));
  const caption = el("figcaption", {}, el("strong", {}, title), ` ${unit}${isCut ? ", the newest only" : ""} `, readout);
  figure.replaceChildren(caption, drawing, legend);
}

/** A band from minimum to maximum, and a line for the median: `values` has [minimum, median, maximum] or null. */
export function band(figure, { title, unit, values, since, bucketSeconds }) {
  const known = values.filter(Boolean);
  const reach = Math.max(...known.flat().map(Math.abs), 0.1);
  const width = Math.max(figure.clientWidth - PADDING, 200);
  const step = (width - LEFT) / values.length;
  const middle = (HEIGHT - BOTTOM) / 2 + 2;
  const y = (value) => middle - (value / reach) * (middle - 8);
  const x = (at) => LEFT + (at + 0.5) * step;
  const drawing = svg("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img" });
  axes(drawing, width, { top: known.length ? `+${seconds(reach)}` : "", bottom: known.length ? `-${seconds(reach)}` : "", since, bucketSeconds, buckets: values.length });
  drawing.append(svg("line", { x1: LEFT, x2: width, y1: middle, y2: middle, class: "zero" }));
  let line = "";
  values.forEach((value, at) => {
    if (!value) return;
    const [least, median, largest] = value;
    drawing.append(svg("rect", { x: LEFT + at * step + 0.5, width: Math.max(step - 1, 1), y: y(largest), height: Math.max(y(least) - y(largest), 1), class: "band" }));
    line += `${line && values[at - 1] ? "L" : "M"}${x(at).toFixed(1)} ${y(median).toFixed(1)}`;
  });
  drawing.append(svg("path", { d: line || "M0 0", class: "median" }));
  const now = known.at(-1);
  drawing.setAttribute("aria-label", now ? `${title}: median ${seconds(now[1])} last, within ${seconds(reach)}` : `${title}: none`);
  const readout = el("output", {}, now ? "" : "· none");
  follow(figure, drawing, { width, step }, (at) => {
    const value = at === null ? null : values[at];
    readout.textContent = value
      ? `${timeOf(since, bucketSeconds, at)} median ${seconds(value[1])}, ${seconds(value[0])} to ${seconds(value[2])}`
      : now ? "" : "· none";
  });
  const legend = el("ul", { class: "legend" }, el("li", { class: "c0" }, "median"), el("li", { class: "bandkey" }, "minimum to maximum of a sample"));
  figure.replaceChildren(el("figcaption", {}, el("strong", {}, title), ` ${unit} `, readout), drawing, legend);
}

/** How far each destination is behind: `lags` has {destination, lagSeconds, waiting, isFailing}. */
export function delays(figure, lags) {
  figure.hidden = lags.length === 0;
  const most = Math.max(...lags.map((lag) => lag.lagSeconds), 10);
  const rows = lags.map((lag) => {
    const bar = el("span", { class: lag.isFailing ? "bar failing" : "bar" });
    bar.style.width = `${Math.max((100 * lag.lagSeconds) / most, 0.5)}%`;
    const behind = lag.waiting ? `${seconds(lag.lagSeconds)}, ${count(lag.waiting)} at most` : "up to date";
    const state = lag.isFailing ? `, failing` : "";
    return el("li", {}, el("span", {}, visible(lag.destination)), el("span", { class: "quiet" }, behind + state), el("span", { class: "track" }, bar));
  });
  figure.replaceChildren(el("figcaption", {}, el("strong", {}, "Delivery lag")), el("ul", { class: "lags" }, ...rows));
}

function seconds(value) {
  const size = Math.abs(value);
  if (size < 1) return `${Math.round(value * 1_000)} ms`;
  if (size < 120) return `${+value.toPrecision(3)} s`;
  return size < 7_200 ? `${+(value / 60).toPrecision(3)} min` : `${count(+(value / 3_600).toPrecision(3))} h`;
}

const timeOf = (since, bucketSeconds, at) => clock(Date.parse(since) + at * bucketSeconds * 1_000, { millis: false });

function axes(drawing, width, { top, bottom, since, bucketSeconds, buckets }) {
  const floor = HEIGHT - BOTTOM;
  drawing.append(
    svg("line", { x1: LEFT, x2: width, y1: floor, y2: floor, class: "axis" }),
    svg("text", { x: LEFT - 5, y: 13, class: "end" }, top),
    svg("text", { x: LEFT - 5, y: floor, class: "end" }, bottom),
    svg("text", { x: LEFT, y: HEIGHT - 3 }, timeOf(since, bucketSeconds, 0)),
    svg("text", { x: width, y: HEIGHT - 3, class: "end" }, timeOf(since, bucketSeconds, buckets)),
  );
}

const pointed = new WeakMap(); // of each figure: the bucket under the pointer, kept when the figure is redrawn

function follow(figure, drawing, { width, step }, show) {
  const cursor = svg("rect", { y: 4, width: step, height: HEIGHT - BOTTOM - 4, x: -100, class: "cursor" });
  drawing.append(cursor);
  const point = (at) => {
    pointed.set(figure, at);
    cursor.setAttribute("x", at === null ? -100 : LEFT + at * step);
        show(at);
  };
  drawing.addEventListener("pointermove", (event) => {
    const place = drawing.getBoundingClientRect();
    const at = Math.floor(((event.clientX - place.left) * (width / place.width) - LEFT) / step);
    if (at >= 0 && at < 60) point(at);
  });
  drawing.addEventListener("pointerleave", () => point(null));
  point(figure.matches(":hover") ? (pointed.get(figure) ?? null) : null);
}
