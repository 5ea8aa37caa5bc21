// The explanation of one record: how it was processed, the message as a tree, and its text.
import { clock, count, el, visible } from "./dom.js";
import { parseExactly, tree } from "./tree.js";

const RAW_CHARS = 20_000;
const PARTS = { messages: "Message", duplicates: "Duplicate", rejected: "Rejected", quarantine: "Quarantined request" };

/** Make the content of the detail view; `onRepair` and `onGo(hash)` are what its buttons do. */
export function explanation(record, { onRepair, onClose, onGo }) {
  const isAccepted = record.outcome === "accepted" || record.outcome === "duplicate";
  const title = record.part === "duplicates" ? PARTS.duplicates : `${PARTS[record.part]} ${record.seq}`;
  return [
    el(
      "div",
      { class: "title" },
      el("h2", { tabindex: "-1" }, title, " ", el("span", { class: `badge ${record.outcome}` }, record.outcome)),
      el("button", { type: "button", class: "close", "aria-label": "Close", title: "Esc", click: onClose }, "✕"),
    ),
    ...(isAccepted ? acceptedSections(record, onGo) : rejectedSections(record, onRepair, onGo)),
    ...contentSections(record, isAccepted),
  ].filter(Boolean);
}

function section(title, ...children) {
  return el("section", {}, el("h3", {}, title), ...children);
}

function facts(pairs) {
  const rows = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", {}, ...rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

/** Text with code between backticks. */
function prose(text) {
  const parts = visible(text).split("`");
  return el("span", {}, ...parts.map((part, at) => (at % 2 ? el("code", {}, part) : part)));
}

const mono = (text) => el("code", { dir: "auto" }, visible(text));

function acceptedSections(record, onGo) {
  const { time } = record;
  const ids = Object.entries(record.ids).map(([name, value]) => [
    name,
    el("span", {}, mono(value), record.coerced.includes(name) ? el("em", {}, " came as a number") : null),
  ]);
  const skew = time.clockSkewSeconds;
  return [
    record.outcome === "duplicate" && section("Duplicate", duplicateOf(record, onGo)),
    record.warnings.length > 0 && section("Warnings", ...record.warnings.map(warning)),
    section("Source", el("p", {}, el("strong", {}, visible(record.source.name)), ": ", prose(record.source.because))),
    section("Ids", facts(ids)),
    section(
      "Time",
      el("p", {}, el("strong", {}, time.rule), `: ${visible(time.sentence)}`),
      facts([
        ["receivedAt", time.receivedAt && mono(time.receivedAt)],
        ["sentAt", time.sentAt && mono(time.sentAt)],
        ["originalTimestamp", time.originalTimestamp && mono(time.originalTimestamp)],
        ["retries before", record.retryCount ? count(record.retryCount) : null],
        ["clock skew", skew === null ? null : `${skew > 0 ? "+" : ""}${count(skew)} s`],
        ["timestamp", time.timestamp && mono(time.timestamp)],
      ]),
    ),
    record.inherited.length > 0 &&
      section("From the batch", el("ul", {}, ...record.inherited.map((path) => el("li", {}, mono(path))))),
    record.destinations.length > 0 && section("Destinations", el("ul", { class: "plain" }, ...record.destinations.map(destination))),
  ];
}

function duplicateOf(record, onGo) {
  if (record.duplicateOf === null) return el("p", {}, "This source sent this messageId before. That message was deleted since.");
  const go = el("button", { type: "button", class: "link", click: () => onGo(`messages/${record.duplicateOf}`) });
  go.append(`message ${record.duplicateOf}`);
  return el("p", {}, "This source sent this messageId before: ", go, ". It is stored once. ", el("span", { class: "quiet" }, KEPT));
}

const KEPT = "The log keeps the newest duplicates, up to 16 MiB, and only some of a large burst.";

function destination(record) {
  const sign = el("span", { class: record.chosen ? "yes" : "no" }, record.chosen ? "✓ goes to" : "✕ not to");
  const options = record.options === undefined ? null : el("code", {}, visible(JSON.stringify(record.options)));
  return el("li", {}, sign, " ", el("strong", {}, visible(record.destination)), `: ${visible(record.sentence)} `, options);
}

function warning(record) {
  const where = record.path ? ` at ${visible(record.path)}` : "";
  return el(
    "details",
    { class: "about" },
    el("summary", {}, el("strong", {}, visible(record.code)), `${where}: ${visible(record.message)}`),
    ...about(record),
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

function rejectedSections(record, onRepair, onGo) {
  const size = record.limit === undefined ? null : `${count(record.limit)} ${record.unit}`;
  return [
    section(
      "Why",
      el("p", {}, el("strong", {}, visible(record.code)), ": ", prose(record.message)),
      facts([
        ["source", record.source ? visible(record.source.name) : null],
        ["received", clock(record.receivedAt)],
        ["endpoint", record.endpoint],
        ["write key", record.part === "quarantine" ? visible(record.writeKey ?? "none") : null],
        ["path", record.path ? mono(record.path) : null],
        ["found", record.found ? mono(record.found) : null],
        ["allowed", record.allowed ? prose(record.allowed) : null],
        ["limit", size],
        ["this one", record.actual === undefined ? null : `${count(record.actual)} ${record.unit}`],
        [`byte ${record.position}`, record.excerpt ? excerpt(record.excerpt) : null],
      ]),
      ...about(record),
    ),
    section("Reprocess", ...repairing(record, onRepair, onGo)),
  ];
}

function excerpt([before, after]) {
  return el("code", {}, visible(before), el("mark", {}, visible(after.slice(0, 1)) || "(the end)"), visible(after.slice(1)));
}

function repairing(record, onRepair, onGo) {
  if (record.repairedAs) {
    const links = record.repairedAs.map((seq) =>
      el("button", { type: "button", class: "link", click: () => onGo(`messages/${seq}`) }, String(seq)),
    );
    return [el("p", {}, "Repaired: it is in the log as ", ...links.flatMap((one, n) => (n ? [", ", one] : [one])), ".")];
  }
  const button = el("button", { type: "button", id: "repair" }, "Reprocess");
  const outcome = el("p", { role: "status" });
  button.addEventListener("click", async () => {
    button.disabled = true;
    outcome.textContent = await onRepair();
    button.disabled = false;
  });
  const hint = "After the cause is fixed, reprocess it with the current configuration; receivedAt stays the same. A second run stores nothing twice.";
  return [el("p", { class: "quiet" }, hint), button, outcome];
}

function contentSections(record, isAccepted) {
  const text = record.payload;
  if (typeof text !== "string") return [];
  const found = [];
  if (record.encoding !== "base64") {
    try {
      found.push(section("Message", tree(parseExactly(text))));
    } catch {
      // It is not JSON, as the explanation states; the text is shown below.
    }
  }
  if (record.batch) found.push(raw("Batch-level fields, or those of its import", record.batch, `${count(record.batch.length)} characters`));
  if (!isAccepted) {
    const name = record.encoding === "base64" ? "Bytes as received, in base64" : "Text as received";
    found.push(raw(name, text, `${count(text.length)} characters`));
    return found;
  }
  if (record.received) found.push(raw(`Bytes as received${base64(record.received)}`, record.received.payload, `${count(record.received.bytes)} bytes`));
  else found.push(el("p", { class: "quiet" }, GONE));
  found.push(raw("Text as stored", text, `${count(record.storedBytes)} bytes`));
  return found;
}

const GONE =
  "The bytes as received are no longer in memory: each worker process keeps those of its newest messages, up to 8 MiB, until it ends. The text as stored includes the changes of the server.";

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
  // Browsers allow copying only over https and on this machine.
  const copy = navigator.clipboard ? el("button", { type: "button", click: () => copied(copy, text) }, "Copy") : null;
  const rest = text.length > RAW_CHARS ? el("p", { class: "quiet" }, `${count(text.length - RAW_CHARS)} more characters`) : null;
  return el("section", {}, el("details", { class: "raw" }, el("summary", {}, `${name} (${size})`), copy, shown, rest));
}
