// What is copied of a record: its address, its id, its JSON, and a command that sends it again.
import { el } from "./dom.js";

/** The address of the tracking API: the debugger is in a folder of it. */
export const apiAddress = () => new URL("..", location.href.split(/[?#]/)[0]).href;

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
// Characters that a terminal may act on, when a command with them is pasted.
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/;

/** A command that sends a body; one that is not plain text travels as base64. */
export function curl({ endpoint, key, body, encoding }) {
  const address = quoted(`${apiAddress()}v1/${endpoint}`);
  const user = `-u ${quoted(`${key || "WRITE_KEY"}:`)}`;
  if (encoding !== "base64" && !CONTROLS.test(body)) {
    return `curl ${address} ${user} -H 'Content-Type: application/json' -d ${quoted(body)}`;
  }
  const text = encoding === "base64" ? body : btoa(String.fromCharCode(...new TextEncoder().encode(body)));
  return `echo ${text} | base64 -d | curl ${address} ${user} -H 'Content-Type: application/json' --data-binary @-`;
}

/** The command for a record; `keys` are the write keys by source. */
export function curlOf(record, keys) {
  if (record.part === "quarantine") {
    return curl({ endpoint: record.endpoint, key: record.writeKey, body: record.payload, encoding: record.encoding });
  }
  const key = keys[record.source?.name];
  if (record.part === "rejected") return curl({ ...rejectedBody(record), key, encoding: record.encoding });
  const received = record.received && record.received.encoding !== "base64" ? record.received.payload : record.payload;
  return curl({ endpoint: record.type, key, body: received });
}

function rejectedBody(record) {
  const { payload, batch } = record;
  if (batch) {
    const fields = batch.trim().slice(1, -1).trim();
    return { endpoint: "batch", body: `{${fields}${fields && ","}"batch":[${payload}]}` };
  }
  let message;
  try {
    message = JSON.parse(payload);
  } catch {
    return { endpoint: "batch", body: payload };
  }
  const call = ["identify", "track", "page", "screen", "group", "alias"].find((one) => one === message?.type);
  return { endpoint: message?.batch !== undefined || !call ? "batch" : call, body: call || message?.batch ? payload : `{"batch":[${payload}]}` };
}

/** A row of buttons that copy: `texts` maps a label to the text, or to a function of it. */
export function copyButtons(texts) {
  const shown = el("textarea", { class: "copyable", readonly: true, rows: 4, hidden: true, "aria-label": "Text to copy" });
  const buttons = Object.entries(texts).map(([label, text]) => {
    const button = el("button", { type: "button", click: () => copy(button, text, shown) }, label);
    return button;
  });
  return el("div", { class: "sharing" }, el("span", { class: "quiet" }, "Copy"), ...buttons, shown);
}

async function copy(button, text, shown) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 1_500);
  } catch {
    // Browsers allow it only over https and on this machine: the text is shown, ready to be copied by hand.
    shown.value = text;
    shown.hidden = false;
    shown.focus();
    shown.select();
  }
}

export const messageIdOf = (record) => record.ids?.messageId ?? "";
export const linkTo = (record) => `${location.href.split(/[?#]/)[0]}#${record.part}/${record.seq}`;
export const pretty = (text) => {
  try {
    return JSON.stringify(JSON.parse(text, (_, value, context) =>
      typeof value === "number" && context?.source !== undefined && String(value) !== context.source && JSON.rawJSON
        ? JSON.rawJSON(context.source) : value), null, 2);
  } catch {
    return text;
  }
};
