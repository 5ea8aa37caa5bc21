// The page: it polls for new records, lists them, and shows the explanation of the selected one.
import * as api from "./api.js";
import { Connection } from "./connection.js";
import { byId, clock, count } from "./dom.js";
import { setKeys, showEmpty } from "./empty.js";
import * as filters from "./filters.js";
import { List, MAX_RECORDS, keyOf } from "./list.js";
import { Opened } from "./opened.js";
import { ChartPanel } from "./panel.js";
import { applyTheme, nextTheme } from "./theme.js";

const POLL = 400;
const BUSY_POLL = 1_500; // when more arrives than anyone can read
const SEARCHES = 5;
const ENOUGH = 40;
const TYPING = 250;

const state = {
  cursors: null, // the newest number of each part that was asked for
  log: "", // identifies the log of the cursors, in case another replaces it
  back: null, // where the search for older records continues
  isPaused: false,
  pausedRows: [], // the records that arrived during the pause
  arrived: 0, // how many did
  isEnd: false,
  isSearching: false,
  notice: "", // the answer to a jump
  searches: 0,
  reached: null,
  unseen: 0,
  skipped: 0,
  turn: 0, // counts changes of the filter: answers to an earlier filter are dropped
  applied: "", // the filters of the list
  isLost: false, // the list could not be started for lack of an answer
  timer: 0,
};

const opened = new Opened({
  onShow: (key) => list.mark(key),
  onClose: () => byId("viewport").focus(),
});
const list = new List(byId("viewport"), byId("rows"), {
  onChoose: (row) => opened.go(keyOf(row)),
  onNearEnd: () => searchOlder(),
  onScroll: () => {
    if (list.isAtTop) state.unseen = 0;
    showUnseen();
  },
  isOpen: () => opened.isOpen,
});
const connection = new Connection(() => {
  clearTimeout(state.timer);
  poll();
});
const panel = new ChartPanel({ isActive: () => !document.hidden && !state.isPaused, onFilter: filterBy });

async function restartList() {
  const turn = ++state.turn;
  Object.assign(state, { cursors: null, back: null, isEnd: false, isSearching: false, searches: 0 });
  Object.assign(state, { reached: null, unseen: 0, skipped: 0, isLost: false, pausedRows: [], arrived: 0 });
  list.clear();
  let begun;
  try {
    begun = await api.start();
  } catch (error) {
    if (turn !== state.turn) return;
    state.isLost = true;
    connection.fail(error);
    showState();
    return;
  }
  if (turn !== state.turn) return;
  connection.succeed();
  filters.offerChoices(begun);
  setKeys(begun.writeKeys);
  opened.keys = begun.writeKeys;
  state.cursors = begun.cursors;
  state.log = begun.log;
  state.back = Object.fromEntries(Object.entries(begun.cursors).map(([part, seq]) => [part, seq + 1]));
  await searchOlder();
  showState();
}

// Newer records

async function poll() {
  let wait = POLL;
  if (!document.hidden) {
    if (state.isLost) {
      await restartList();
      if (state.isLost) wait = Math.max(connection.nextAt - performance.now(), 0);
    } else if (state.cursors !== null) {
      wait = await askNewer();
    }
    showState();
  }
  clearTimeout(state.timer);
  state.timer = setTimeout(poll, wait);
}

async function askNewer() {
  const { turn, cursors } = state;
  const seconds = panel.due;
  try {
    const found = await api.newer(cursors, { ...filters.wanted(), charts: seconds, log: state.log });
    connection.succeed();
    // "Retry" may ask again before an earlier answer is there: only one of them is taken.
    if (turn === state.turn && cursors === state.cursors) take(found);
    if (found.charts) panel.take(found.charts, seconds);
    return found.skipped || state.isPaused ? BUSY_POLL : POLL;
  } catch (error) {
    return connection.fail(error);
  }
}

function take(found) {
  if (found.isAnotherLog) {
    restartList();
    return;
  }
  state.cursors = found.cursors;
  state.log = found.log;
  state.skipped += found.skipped;
  if (state.isPaused) {
    state.arrived += found.rows.length + found.skipped;
    state.pausedRows = found.rows.concat(state.pausedRows).slice(0, MAX_RECORDS);
  } else {
    prepend(found.rows);
  }
}

function prepend(rows) {
  if (!rows.length) return;
  if (!list.isAtTop) state.unseen += rows.length;
  list.prepend(rows);
  showFoot();
}

// Older records

async function searchOlder() {
  if (state.isSearching || state.isEnd || state.back === null || state.searches >= SEARCHES || list.isFull) return showFoot();
  const turn = state.turn;
  state.isSearching = true;
  showFoot();
  let rows = 0;
  try {
    const found = await api.older(state.back, filters.wanted());
    if (turn !== state.turn) return undefined;
    state.back = found.cursors;
    state.isEnd = found.isEnd;
    state.reached = found.reached;
    rows = found.rows.length;
    // Search again until there are enough rows, but at most SEARCHES times without a click.
    state.searches = rows >= ENOUGH ? 0 : state.searches + 1;
    list.append(found.rows);
  } catch (error) {
    if (turn !== state.turn) return undefined;
    connection.fail(error);
    state.searches = SEARCHES;
  }
  state.isSearching = false;
  showFoot();
  return list.draw();
}

// Status texts

function showState() {
  connection.show({ ...state, listed: list.records.length });
}

function showUnseen() {
  const button = byId("to-top");
  button.hidden = state.unseen === 0;
  button.textContent = `↑ ${count(state.unseen)} new`;
}

function showFoot() {
  const back = state.reached === null ? "" : `Searched back to ${clock(state.reached, { millis: false })}.`;
  const text = state.isSearching ? `${back} Searching…` : state.isEnd ? "Start of the log." : back;
  const isFiltered = filters.isFiltered();
  const isNothing = !list.records.length && !state.isSearching && state.isEnd;
  const nothing = isFiltered ? filters.describeNothing() : "The log is empty.";
  byId("foot-text").textContent = state.notice || (isNothing ? nothing : text);
  byId("further").hidden = state.isSearching || state.isEnd || state.searches < SEARCHES;
  showEmpty(isNothing && !isFiltered);
}

async function jump(event) {
  event.preventDefault();
  const id = byId("jump-id").value.trim();
  if (!id) return;
  notify("");
  try {
    const { rows } = await api.find(id);
    if (rows.length) opened.go(keyOf(rows[0]));
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

// Filters

let typing;
function onFilter(event) {
  clearTimeout(typing);
  if (event.target.id === "filter-event" && event.type === "input") filters.suggestEvents();
  if (!filters.isComplete(event)) return;
  const isText = event.type === "input" && event.target.matches("input:not([type=checkbox])");
  typing = setTimeout(applyFilters, isText ? TYPING : 0);
}

function applyFilters() {
  clearTimeout(typing);
  const wanted = JSON.stringify(filters.wanted());
  if (wanted === state.applied) return;
  state.applied = wanted;
  filters.writeAddress();
  restartList();
}

function filterBy(values) {
  filters.setFilters(values);
  applyFilters();
}

// Buttons and keys

function pause() {
  state.isPaused = !state.isPaused;
  const button = byId("pause");
  button.setAttribute("aria-pressed", state.isPaused);
  button.textContent = state.isPaused ? "Resume" : "Pause";
  if (!state.isPaused) {
    prepend(state.pausedRows);
    Object.assign(state, { pausedRows: [], arrived: 0 });
  }
  showState();
}

function showTheme(theme) {
  byId("theme").textContent = { system: "Theme: system", light: "Theme: light", dark: "Theme: dark" }[theme];
}

const KEYS = {
  p: pause,
  c: () => panel.toggle(),
  t: () => showTheme(nextTheme()),
  e: () => byId("filter-event").focus(),
  "/": () => byId("filter-text").focus(),
  g: () => byId("jump-id").focus(),
  "?": () => byId("help").showModal(),
  Escape: () => opened.isOpen && opened.close(),
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
  } else if (isWalk(event)) {
    if (!opened.isOpen) byId("viewport").focus();
    list.key(event);
  }
}

/** Whether a key moves through the list though something else has the focus: nothing, or the open message. */
function isWalk({ key, target }) {
  const isLetter = key === "j" || key === "k";
  if (byId("viewport").contains(target)) return false;
  if (opened.isOpen) return isLetter;
  return target === document.body && (isLetter || key === "ArrowDown" || key === "ArrowUp");
}

async function begin() {
  showTheme(applyTheme());
  byId("filters").addEventListener("input", onFilter);
  byId("filter-event").addEventListener("change", onFilter);
  byId("filters").addEventListener("reset", (event) => setTimeout(() => onFilter(event)));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filter-event").addEventListener("focus", filters.suggestEvents);
  byId("jump").addEventListener("submit", jump);
  byId("pause").addEventListener("click", pause);
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
  addEventListener("popstate", () => {
    filters.readAddress();
    applyFilters();
  });
  if (location.hash && !location.hash.includes("/")) history.replaceState(null, "", location.pathname + location.search);
  filters.readAddress();
  state.applied = JSON.stringify(filters.wanted());

  await restartList();
  opened.show();
  poll();
  panel.ask();
}

begin().catch((error) => {
  connection.fail(error);
  showState();
});
