// One record: the message as a tree, then why it was processed as it was, its delivery, and its text.
import { clock, count, el, visible } from "./dom.js";
import { copyButtons, curlOf, linkTo, messageIdOf, pretty } from "./sharing.js";
import { parseExactly, tree } from "./tree.js";

const RAW_CHARS = 20_000;
const PARTS = { messages: "Message", duplicates: "Duplicate", rejected: "Rejected", quarantine: "Quarantined request" };

/**
 * Make the content of the detail view.  `keys` are the write keys by source, for commands; `onRepair`, `onRetry(destination)`
 * and `onGo(hash)` are what its buttons do.
 */
export function explanation(record, { onRepair, onRetry, onClose, onGo, keys }) {
  const isAccepted = record.outcome === "accepted" || record.outcome === "duplicate";
  const title = record.part === "duplicates" ? PARTS.duplicates : `${PARTS[record.part]} ${record.seq}`;
  return [
    el(
      "div",
      { class: "title" },
      el("h2", { tabindex: "-1" }, title, " ", el("span", { class: `badge ${record.outcome}` }, record.outcome)),
      el("button", { type: "button", class: "close", "aria-label": "Close", title: "Esc", click: onClose }, "✕"),
    ),
    copyButtons(textsOf(record, keys)),
    messageSection(record),
    ...(isAccepted ? acceptedSections(record, onGo, onRetry) : rejectedSections(record, onRepair, onGo)),
    ...textSections(record, isAccepted),
  ].filter(Boolean);
}

function textsOf(record, keys) {
  const id = messageIdOf(record);
  const text = typeof record.payload === "string" && record.encoding !== "base64" ? { JSON: pretty(record.payload) } : {};
  return { Link: linkTo(record), ...(id ? { Id: id } : {}), ...text, "as curl": curlOf(record, keys) };
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

function acceptedSections(record, onGo, onRetry) {
  const { time } = record;
  const ids = Object.entries(record.ids).map(([name, value]) => [
    name,
    el("span", {}, mono(value), record.coerced.includes(name) ? el("em", {}, " came as a number") : null),
  ]);
  const skew = time.clockSkewSeconds;
  return [
    record.outcome === "duplicate" && section("Duplicate", duplicateOf(record, onGo)),
    record.warnings.length > 0 && section("Warnings", ...record.warnings.map(warning)),
    deliverySection(record, onRetry),
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
  ];
}

function duplicateOf(record, onGo) {
  if (record.duplicateOf === null) return el("p", {}, "This source sent this messageId before. That message was deleted since.");
  const go = el("button", { type: "button", class: "link", click: () => onGo(`messages/${record.duplicateOf}`) });
  go.append(`message ${record.duplicateOf}`);
  return el("p", {}, "This source sent this messageId before: ", go, ". It is stored once. ", el("span", { class: "quiet" }, KEPT));
}

const KEPT = "The log keeps the newest duplicates, up to 16 MiB, and only some of a large burst.";

/** Why each destination was selected or not, and what became of the message there. */
export function deliverySection(record, onRetry) {
  if (!record.destinations.length && !record.deliveries?.length) return null;
  const outcomes = new Map((record.deliveries ?? []).map((one) => [one.destination, one]));
  const trouble = record.deliveryError ? el("p", { role: "alert" }, `The state of delivery cannot be read: ${visible(record.deliveryError)}`) : null;
  const lines = record.destinations.map((one) => destination(one, outcomes.get(one.destination), onRetry));
  const found = section("Delivery", el("ul", { class: "plain" }, ...lines), trouble);
  found.id = "deliveries";
  return found;
}

/** Whether the delivery of a record can change soon, so that it is worth asking again. */
export const isUnderWay = (record) =>
  (record.deliveries ?? []).some((one) => one.outcome === "waiting" || one.outcome === "held" || one.retriedAt);

function destination(record, outcome, onRetry) {
  const sign = el("span", { class: record.chosen ? "yes" : "no" }, record.chosen ? "✓ goes to" : "✕ not to");
  const options = record.options === undefined ? null : el("code", {}, visible(JSON.stringify(record.options)));
  const because = el("span", {}, sign, " ", el("strong", {}, visible(record.destination)), `: ${visible(record.sentence)} `, options);
  return el("li", {}, because, outcome ? el("div", { class: `outcome ${outcome.outcome}` }, ...delivered(outcome, onRetry)) : null);
}

function delivered(one, onRetry) {
  const at = one.at ? ` ${clock(one.at)}` : "";
  const attempts = one.attempts === 1 ? ", in the first attempt" : one.attempts ? `, in attempt ${count(one.attempts)}` : "";
  const failing = one.error ? `: the destination fails since ${clock(one.failingSince)}, ${visible(one.error)}` : "";
  const next = one.nextTryAt ? `; next try ${clock(one.nextTryAt, { millis: false })}` : "";
  if (one.outcome === "delivered") return [`✓ delivered${at}${attempts}`, at ? null : el("span", { class: "quiet" }, " (times are kept for the newest)")];
  if (one.outcome === "waiting") return [`… waiting to be delivered${failing}${next}`];
  if (one.outcome === "held") return [`… held back, ${heldBecause(one)}${failing}${next}`];
  if (one.outcome === "settled") return [`settled${at}${attempts}: delivered, or a dead letter that was deleted since`];
  if (one.outcome === "not_delivered") return [el("span", { class: "quiet" }, "it has no `kind`, so this server sends it nothing")];
  const again = one.retriedAt
    ? el("span", { role: "status" }, ` It is sent again, as asked ${clock(one.retriedAt)}.`)
    : el("button", { type: "button", class: "again", click: (event) => onRetry(one.destination, event.target) }, "Send again");
  return [`✕ dead letter${at}: ${visible(one.reason)} `, again];
}

function heldBecause({ behind, lastError }) {
  if (behind) return `behind ${behind === 1 ? "an earlier message" : `${count(behind)} earlier messages`} of its user`;
  return `since the destination fails for it and takes those of other users: ${visible(lastError ?? "")}`;
}

function warning(record) {
  const where = record.path ? ` at ${visible(record.path)}` : "";
  return el(
    "details",
    { class: "about" },
    el("summary", {}, el("strong", {}, visible(record.code)), `${where}: ${visible(record.message)}`),
    record.rule && facts([["rule", visible(record.rule)]]),
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
    section("Receive again", ...repairing(record, onRepair, onGo)),
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
  if (!record.canRepair) return [el("p", { class: "quiet" }, record.part === "quarantine" ? NO_KEY : NO_HELP)];
  const button = el("button", { type: "button", id: "repair" }, "Receive again");
  const outcome = el("p", { role: "status" });
  button.addEventListener("click", async () => {
    button.disabled = true;
    outcome.textContent = await onRepair();
    button.disabled = false;
  });
  const hint = "After the configuration was changed, receive it again with the current one; receivedAt stays the same. A second run stores nothing twice.";
  return [el("p", { class: "quiet" }, hint), button, outcome];
}

const NO_HELP = "No configuration helps: the message is wrong as it was sent. Correct the program that sends it.";
const NO_KEY = "No configuration helps: the request has no write key. Correct the program that sends it.";

function messageSection(record) {
  const text = record.payload;
  if (typeof text !== "string" || record.encoding === "base64") return null;
  try {
    return section("Message", tree(parseExactly(text)));
  } catch {
    return null; // it is not JSON, as the explanation states; its text is shown below
  }
}

function textSections(record, isAccepted) {
  const text = record.payload;
  if (typeof text !== "string") return [];
  const found = [];
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
