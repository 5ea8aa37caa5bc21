// The page: it polls for new records, lists them, and shows the explanation of the selected one.
import * as api from "./api.js";
import { band, bars, delays } from "./charts.js";
import { explanation } from "./detail.js";
import { byId, clock, count, el } from "./dom.js";
import { List, keyOf } from "./list.js";
import { applyTheme, nextTheme } from "./theme.js";

const POLL = 400;
const BUSY_POLL = 1_000; // when more arrives than anyone can read
const CHARTS = 2_000;
const CHARTS_PARTIAL = 250; // until everything is counted
const SEARCHES = 5;
const ENOUGH = 40;
const ALL_PARTS = "messages,duplicates,rejected,quarantine";

const state = {
  cursors: null, // the newest listed number of each part
  log: "", // identifies the log of the cursors, in case another replaces it
  back: null, // where the search for older records continues
  isPaused: false,
  isEnd: false,
  isSearching: false,
  notice: "", // the answer to a jump
  searches: 0,
  reached: null,
  unseen: 0,
  skipped: 0,
  trouble: "",
  chartsAt: 0, // when to draw the charts again; they come with new records
  turn: 0, // counts changes of the filter: answers to an earlier filter are dropped
  isLost: false, // the list could not be started for lack of an answer
};

const list = new List(byId("viewport"), byId("rows"), {
  onChoose: (row) => go(keyOf(row)),
  onNearEnd: () => searchOlder(),
  onScroll: () => {
    if (list.isAtTop) state.unseen = 0;
    showUnseen();
  },
});

// Filters

function wanted() {
  const parts = [...byId("parts").querySelectorAll("input")].filter((box) => box.checked).map((box) => box.name);
  return {
    parts: parts.join(",") || "none",
    source: byId("filter-source").value,
    type: byId("filter-type").value,
    code: byId("filter-code").value,
    user: byId("filter-user").value.trim(),
    text: byId("filter-text").value,
  };
}

const isFiltered = () => Object.entries(wanted()).some(([name, value]) => (name === "parts" ? value !== ALL_PARTS : value));

async function restartList() {
  const turn = ++state.turn;
  Object.assign(state, { cursors: null, back: null, isEnd: false, isSearching: false, searches: 0 });
  Object.assign(state, { reached: null, unseen: 0, skipped: 0, isLost: false });
  list.clear();
  let begun;
  try {
    begun = await api.start();
  } catch (error) {
    if (turn !== state.turn) return;
    Object.assign(state, { isLost: true, trouble: error.message });
    showState();
    return;
  }
  if (turn !== state.turn) return;
  state.trouble = "";
  offer(byId("filter-source"), begun.sources);
  offer(byId("filter-code"), Object.keys(begun.codes), begun.codes);
  state.cursors = begun.cursors;
  state.log = begun.log;
  state.back = Object.fromEntries(Object.entries(begun.cursors).map(([part, seq]) => [part, seq + 1]));
  await searchOlder();
  showState();
}

function offer(select, names, titles = {}) {
  const known = new Set([...select.options].map((option) => option.value));
  select.append(...names.filter((name) => !known.has(name)).map((name) => el("option", { value: name, title: titles[name] }, name)));
}

// Newer records

async function poll() {
  let wait = POLL;
  if (state.isLost && !document.hidden) {
    await restartList();
  } else if (!state.isPaused && state.cursors !== null && !document.hidden) {
    const turn = state.turn;
    try {
      const seconds = showsCharts() && performance.now() >= state.chartsAt ? byId("range").value : "";
      const found = await api.newer(state.cursors, { ...wanted(), charts: seconds, log: state.log });
      if (turn === state.turn && !state.isPaused) take(found);
      if (found.charts && seconds === byId("range").value) drawCharts(found.charts);
      if (found.skipped) wait = BUSY_POLL;
      state.trouble = "";
    } catch (error) {
      state.trouble = error.message;
    }
    showState();
  }
  setTimeout(poll, wait);
}

function take(found) {
  if (found.isAnotherLog) {
    restartList();
    return;
  }
  state.cursors = found.cursors;
  state.log = found.log;
  state.skipped += found.skipped;
  if (!found.rows.length) return;
  if (!list.isAtTop) state.unseen += found.rows.length;
  list.prepend(found.rows);
}

// Older records

async function searchOlder() {
  if (state.isSearching || state.isEnd || state.back === null || state.searches >= SEARCHES || list.isFull) return showFoot();
  const turn = state.turn;
  state.isSearching = true;
  showFoot();
  let rows = 0;
  try {
    const found = await api.older(state.back, wanted());
    if (turn !== state.turn) return undefined;
    state.back = found.cursors;
    state.isEnd = found.isEnd;
    state.reached = found.reached;
    rows = found.rows.length;
    // Search again until there are enough rows, but at most SEARCHES times without a click.
    state.searches = rows >= ENOUGH ? 0 : state.searches + 1;
    list.append(found.rows);
  } catch (error) {
    state.trouble = error.message;
    state.searches = SEARCHES;
  }
  state.isSearching = false;
  showFoot();
  return list.draw();
}

// Status texts

function showState() {
  const skipped = state.skipped ? `, ${count(state.skipped)} skipped` : "";
  const mode = state.trouble ? `No answer: ${state.trouble}` : state.isPaused ? "Paused" : "Live";
  const text = `${mode} · ${count(list.records.length)} listed${skipped}`;
  const shown = byId("state");
  if (shown.textContent !== text) shown.textContent = text;
  shown.className = `state ${state.trouble ? "trouble" : state.isPaused ? "paused" : "live"}`;
}

function showUnseen() {
  const button = byId("to-top");
  button.hidden = state.unseen === 0;
  button.textContent = `↑ ${count(state.unseen)} new`;
}

function showFoot() {
  const back = state.reached === null ? "" : `Searched back to ${clock(state.reached, { millis: false })}.`;
  const text = state.isSearching ? `${back} Searching…` : state.isEnd ? "Start of the log." : back;
  const nothing = isFiltered() ? "No record in the log matches the filters." : "The log is empty.";
  const found = list.records.length || state.isSearching || !state.isEnd ? text : nothing;
  byId("foot-text").textContent = state.notice || found;
  byId("further").hidden = state.isSearching || state.isEnd || state.searches < SEARCHES;
}

// The explanation of one record

const go = (hash) => {
  if (location.hash === `#${hash}`) openDetail();
  else location.hash = hash;
};

async function openDetail() {
  const asked = location.hash;
  const [part, seq] = asked.slice(1).split("/");
  const view = byId("detail");
  if (!/^\d+$/.test(seq ?? "")) {
    view.hidden = true;
    document.body.classList.remove("has-detail");
    return;
  }
  let shown;
  try {
    const record = await api.detail(part, seq);
    shown = explanation(record, { onRepair: () => repair(part, seq), onClose: closeDetail, onGo: go });
  } catch (error) {
    shown = [el("p", { role: "alert" }, `${error.message} `), el("button", { type: "button", click: closeDetail }, "Close")];
  }
  if (location.hash !== asked) return; // meanwhile another was opened, or this one was closed
  view.replaceChildren(...shown);
  view.hidden = false;
  view.scrollTop = 0;
  document.body.classList.add("has-detail");
  list.mark(`${part}/${seq}`);
  view.querySelector("h2")?.focus({ preventScroll: true });
}

function closeDetail() {
  history.pushState(null, "", location.pathname);
  openDetail();
  byId("viewport").focus();
}

async function repair(part, seq) {
  try {
    const result = await api.repair(part, seq);
    const counts = `${count(result.stored)} stored, ${count(result.duplicates)} stored before, ${count(result.rejected)} rejected`;
    const why = `${result.code}: ${result.detail}.`;
    if (result.outcome === "refused") return `Rejected again: ${why}`;
    return result.outcome === "repaired" ? `Repaired: ${counts}.` : `Partly repaired: ${counts}; first rejection: ${why}`;
  } catch (error) {
    return error.message;
  }
}

async function jump(event) {
  event.preventDefault();
  const id = byId("jump-id").value.trim();
  if (!id) return;
  notify("");
  try {
    const { rows } = await api.find(id);
    if (rows.length) go(keyOf(rows[0]));
    if (rows.length > 1) notify(`${id} is the id or number of messages ${rows.map((row) => row.seq).join(", ")}.`);
    else if (!rows.length) notify(`No message has the id or number ${id}.`);
  } catch (error) {
    notify(error.message);
  }
}

// A notice stays until the next jump: updates of the list must not replace it.
function notify(text) {
  state.notice = text;
  showFoot();
}

// Charts

const showsCharts = () => !document.hidden && !byId("charts").hidden && !state.isPaused;

async function askCharts() {
  clearTimeout(askCharts.timer);
  if (!showsCharts()) return;
  try {
    drawCharts(await api.charts(byId("range").value));
  } catch {
    // The list shows the error; the charts stay as they were.
  }
}

function drawCharts(found) {
  const over = { since: found.since, bucketSeconds: found.bucketSeconds };
  bars(byId("chart-messages"), { ...over, title: "Messages by source", unit: "per second", series: found.messages, scale: found.bucketSeconds });
  bars(byId("chart-rejected"), { ...over, title: "Rejections by code", unit: `per ${span(found.bucketSeconds)}`, series: found.rejected, isCut: found.rejectedAreCut });
  band(byId("chart-skew"), { ...over, title: "Clock skew", unit: "of clients", values: found.clockSkew });
  delays(byId("chart-delivery"), found.delivery);
  state.chartsAt = performance.now() + CHARTS;
  clearTimeout(askCharts.timer);
  if (found.isPartial) askCharts.timer = setTimeout(askCharts, CHARTS_PARTIAL);
}

const span = (seconds) => (seconds < 120 ? `${seconds} s` : `${seconds / 60} min`);

// Buttons and keys

function pause() {
  state.isPaused = !state.isPaused;
  const button = byId("pause");
  button.setAttribute("aria-pressed", state.isPaused);
  button.textContent = state.isPaused ? "Resume" : "Pause";
  showState();
}

function toggleCharts() {
  const charts = byId("charts");
  charts.hidden = !charts.hidden;
  byId("charts-toggle").setAttribute("aria-expanded", !charts.hidden);
  askCharts();
}

function showTheme(theme) {
  byId("theme").textContent = { system: "Theme: system", light: "Theme: light", dark: "Theme: dark" }[theme];
}

const KEYS = {
  p: pause,
  c: toggleCharts,
  t: () => showTheme(nextTheme()),
  "/": () => byId("filter-text").focus(),
  g: () => byId("jump-id").focus(),
  "?": () => byId("help").showModal(),
  Escape: () => !byId("detail").hidden && closeDetail(),
};

function onKey(event) {
  const isTyping = event.target.matches("input:not([type=checkbox]), select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  if (isTyping) {
    if (event.key === "Escape") byId("viewport").focus();
    return;
  }
  const act = KEYS[event.key];
  if (act) {
    event.preventDefault();
    act();
  } else if (["j", "k", "ArrowDown", "ArrowUp"].includes(event.key) && event.target === document.body) {
    byId("viewport").focus();
    list.key(event);
  }
}

let typing;
function onFilter(event) {
  clearTimeout(typing);
  typing = setTimeout(restartList, event.type === "input" && event.target.matches("input:not([type=checkbox])") ? 250 : 0);
}

async function begin() {
  showTheme(applyTheme());
  byId("filters").addEventListener("input", onFilter);
  byId("filters").addEventListener("reset", (event) => setTimeout(() => onFilter(event)));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("jump").addEventListener("submit", jump);
  byId("pause").addEventListener("click", pause);
  byId("charts-toggle").addEventListener("click", toggleCharts);
  byId("range").addEventListener("change", askCharts);
  byId("theme").addEventListener("click", KEYS.t);
  byId("help-open").addEventListener("click", KEYS["?"]);
  byId("to-top").addEventListener("click", () => list.toTop());
  byId("further").addEventListener("click", () => {
    state.searches = 0;
    searchOlder();
  });
  byId("leave").addEventListener("click", async () => {
    await api.leave();
    location.reload();
  });
  document.addEventListener("keydown", onKey);
  addEventListener("hashchange", openDetail);
  if (location.hash && !location.hash.includes("/")) history.replaceState(null, "", location.pathname);
  if (matchMedia("(max-width: 700px)").matches) toggleCharts();

  await restartList();
  openDetail();
  poll();
  askCharts();
}

begin().catch((error) => {
  state.trouble = error.message;
  showState();
});
