// The story of one record: why it came out as it did, the message as a tree, and its text.
import { clock, count, el, visible } from "./dom.js";
import { parseExactly, tree } from "./tree.js";

const RAW_CHARS = 20_000;
const PARTS = { messages: "Message", duplicates: "Duplicate", rejected: "Rejected", quarantine: "Quarantined request" };

/** Make the content of the detail view; `onRepair` and `onGo(hash)` are what its buttons do. */
export function story(told, { onRepair, onClose, onGo }) {
  const kept = told.outcome === "accepted" || told.outcome === "duplicate";
  const title = told.part === "duplicates" ? PARTS.duplicates : `${PARTS[told.part]} ${told.seq}`;
  return [
    el(
      "div",
      { class: "title" },
      el("h2", { tabindex: "-1" }, title, " ", el("span", { class: `badge ${told.outcome}` }, told.outcome)),
      el("button", { type: "button", class: "close", "aria-label": "Close", title: "Esc", click: onClose }, "✕"),
    ),
    ...(kept ? keptSections(told, onGo) : refusedSections(told, onRepair, onGo)),
    ...contentSections(told, kept),
  ].filter(Boolean);
}

function section(title, ...children) {
  return el("section", {}, el("h3", {}, title), ...children);
}

function facts(pairs) {
  const rows = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", {}, ...rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

/** Text in which what stands between backticks is code. */
function prose(text) {
  const parts = visible(text).split("`");
  return el("span", {}, ...parts.map((part, at) => (at % 2 ? el("code", {}, part) : part)));
}

const mono = (text) => el("code", { dir: "auto" }, visible(text));

function keptSections(told, onGo) {
  const { time } = told;
  const ids = Object.entries(told.ids).map(([name, value]) => [
    name,
    el("span", {}, mono(value), told.coerced.includes(name) ? el("em", {}, " came as a number") : null),
  ]);
  const skew = time.clockSkewSeconds;
  return [
    told.outcome === "duplicate" && section("Duplicate", duplicateOf(told, onGo)),
    told.warnings.length > 0 && section("Warnings", ...told.warnings.map(warning)),
    section("Source", el("p", {}, el("strong", {}, visible(told.source.name)), ": ", prose(told.source.because))),
    section("Ids", facts(ids)),
    section(
      "Time",
      el("p", {}, el("strong", {}, time.rule), `: ${visible(time.sentence)}`),
      facts([
        ["receivedAt", time.receivedAt && mono(time.receivedAt)],
        ["sentAt", time.sentAt && mono(time.sentAt)],
        ["originalTimestamp", time.originalTimestamp && mono(time.originalTimestamp)],
        ["clock skew", skew === null ? null : `${skew > 0 ? "+" : ""}${count(skew)} s`],
        ["timestamp", time.timestamp && mono(time.timestamp)],
      ]),
    ),
    told.inherited.length > 0 &&
      section("From the batch", el("ul", {}, ...told.inherited.map((path) => el("li", {}, mono(path))))),
    told.destinations.length > 0 && section("Destinations", el("ul", { class: "plain" }, ...told.destinations.map(destination))),
  ];
}

function duplicateOf(told, onGo) {
  if (told.duplicateOf === null) return el("p", {}, "This source has sent this messageId before. That message is gone by now.");
  const go = el("button", { type: "button", class: "link", click: () => onGo(`messages/${told.duplicateOf}`) });
  go.append(`message ${told.duplicateOf}`);
  return el("p", {}, "This source has sent this messageId before: ", go, ". It is stored once. ", el("span", { class: "quiet" }, KEPT));
}

const KEPT = "Of duplicates the log keeps the newest, up to 16 MiB, and of very many at once a part.";

function destination(told) {
  const sign = el("span", { class: told.chosen ? "yes" : "no" }, told.chosen ? "✓ goes to" : "✕ not to");
  const options = told.options === undefined ? null : el("code", {}, visible(JSON.stringify(told.options)));
  return el("li", {}, sign, " ", el("strong", {}, visible(told.destination)), `: ${visible(told.sentence)} `, options);
}

function warning(told) {
  const where = told.path ? ` at ${visible(told.path)}` : "";
  return el(
    "details",
    { class: "about" },
    el("summary", {}, el("strong", {}, visible(told.code)), `${where}: ${visible(told.message)}`),
    ...about(told),
  );
}

function about(entry) {
  if (!entry.meaning) return [];
  return [
    facts([
      ["means", prose(entry.meaning)],
      ["sent by", prose(entry.senders)],
      ["to do", prose(entry.remedy)],
      ["see", link(entry.link)],
    ]),
  ];
}

function link(address) {
  return el("a", { href: address, rel: "noreferrer noopener", target: "_blank" }, address);
}

function refusedSections(told, onRepair, onGo) {
  const size = told.limit === undefined ? null : `${count(told.limit)} ${told.unit}`;
  return [
    section(
      "Why",
      el("p", {}, el("strong", {}, visible(told.code)), ": ", prose(told.message)),
      facts([
        ["source", told.source ? visible(told.source.name) : null],
        ["received", clock(told.receivedAt)],
        ["endpoint", told.endpoint],
        ["write key", told.part === "quarantine" ? visible(told.writeKey ?? "none") : null],
        ["path", told.path ? mono(told.path) : null],
        ["found", told.found ? mono(told.found) : null],
        ["allowed", told.allowed ? prose(told.allowed) : null],
        ["limit", size],
        ["this one", told.actual === undefined ? null : `${count(told.actual)} ${told.unit}`],
        [`byte ${told.position}`, told.excerpt ? excerpt(told.excerpt) : null],
      ]),
      ...about(told),
    ),
    section("Receive again", ...repairing(told, onRepair, onGo)),
  ];
}

function excerpt([before, after]) {
  return el("code", {}, visible(before), el("mark", {}, visible(after.slice(0, 1)) || "(the end)"), visible(after.slice(1)));
}

function repairing(told, onRepair, onGo) {
  if (told.repairedAs) {
    const links = told.repairedAs.map((seq) =>
      el("button", { type: "button", class: "link", click: () => onGo(`messages/${seq}`) }, String(seq)),
    );
    return [el("p", {}, "This was repaired. It is in the log as ", ...links.flatMap((one, n) => (n ? [", ", one] : [one])), ".")];
  }
  const button = el("button", { type: "button", id: "repair" }, "Receive again");
  const outcome = el("p", { role: "status" });
  button.addEventListener("click", async () => {
    button.disabled = true;
    outcome.textContent = await onRepair();
    button.disabled = false;
  });
  const hint = "Once the configuration is mended, this goes through intake with its first receivedAt. Doing it twice does no harm.";
  return [el("p", { class: "quiet" }, hint), button, outcome];
}

function contentSections(told, kept) {
  const text = told.payload;
  if (typeof text !== "string") return [];
  const found = [];
  if (told.encoding !== "base64") {
    try {
      found.push(section("Message", tree(parseExactly(text))));
    } catch {
      // It is no JSON, which is what the story says; the text is shown below.
    }
  }
  if (told.batch) found.push(raw("What its batch said for all, or its import", told.batch, `${count(told.batch.length)} characters`));
  if (!kept) {
    const name = told.encoding === "base64" ? "Bytes as received, in base64" : "Text as received";
    found.push(raw(name, text, `${count(text.length)} characters`));
    return found;
  }
  if (told.received) found.push(raw(`Bytes as received${base64(told.received)}`, told.received.payload, `${count(told.received.bytes)} bytes`));
  else found.push(el("p", { class: "quiet" }, GONE));
  found.push(raw("Text as stored", text, `${count(told.storedBytes)} bytes`));
  return found;
}

const GONE =
  "The bytes as received are not remembered: each worker process keeps those of its newest messages in memory, up to 8 MiB, until it ends. The text as stored is the message with what the server made of it.";

const base64 = (received) => (received.encoding === "base64" ? ", in base64" : "");

async function copied(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "The browser does not allow it";
  }
}

function raw(name, text, size) {
  const shown = el("pre", { dir: "auto" }, visible(text.slice(0, RAW_CHARS)));
  // Browsers let a page copy over https and on this machine only.
  const copy = navigator.clipboard ? el("button", { type: "button", click: () => copied(copy, text) }, "Copy") : null;
  const rest = text.length > RAW_CHARS ? el("p", { class: "quiet" }, `${count(text.length - RAW_CHARS)} more characters`) : null;
  return el("section", {}, el("details", { class: "raw" }, el("summary", {}, `${name} (${size})`), copy, shown, rest));
}
