// An empty log: what to paste, to send the first message, while the page waits for it.
import { byId, el, visible } from "./dom.js";
import { apiAddress, copyButtons, curl } from "./sharing.js";

const EXAMPLE = '{"userId": "user-1", "event": "First Event"}';

let keys = {};
let source = "";

/** Set the sources that can send: their write keys by name. */
export function setKeys(writeKeys) {
  keys = writeKeys;
}

const snippets = (key) => ({
  curl: curl({ endpoint: "track", key, body: EXAMPLE }),
  "Browser (@segment/analytics-next)": [
    'import { AnalyticsBrowser } from "@segment/analytics-next";',
    `const analytics = AnalyticsBrowser.load({ writeKey: ${JSON.stringify(key)}, cdnURL: ${JSON.stringify(host())} });`,
    'analytics.track("First Event");',
  ].join("\n"),
  "Node (@segment/analytics-node)": [
    'import { Analytics } from "@segment/analytics-node";',
    `const analytics = new Analytics({ writeKey: ${JSON.stringify(key)}, host: ${JSON.stringify(host())} });`,
    'analytics.track({ userId: "user-1", event: "First Event" });',
  ].join("\n"),
  "Python (segment-analytics-python)": [
    "import segment.analytics",
    `client = segment.analytics.Client(${JSON.stringify(key)}, host=${JSON.stringify(host())})`,
    'client.track("user-1", "First Event")',
    "client.flush()",
  ].join("\n"),
});

const host = () => apiAddress().replace(/\/$/, "");

/** Show the panel, or hide it once there is a record. */
export function showEmpty(isEmpty) {
  const panel = byId("empty");
  if (panel.hidden === !isEmpty) return;
  panel.hidden = !isEmpty;
  if (isEmpty) draw(panel);
  else panel.replaceChildren();
}

function draw(panel) {
  const names = Object.keys(keys);
  source = names.includes(source) ? source : (names[0] ?? "");
  const waiting = el("p", { class: "waiting" }, "Waiting for the first message…");
  if (!names.length) {
    panel.replaceChildren(el("h2", {}, "Nothing was received yet"), el("p", {}, "No source has a write key: add one under [[sources]]."), waiting);
    return;
  }
  const choice = el("select", { "aria-label": "Source", change: (event) => {
    source = event.target.value;
    draw(panel);
    panel.querySelector("select")?.focus();
  } }, ...names.map((name) => el("option", { value: name, selected: name === source }, visible(name))));
  const key = keys[source];
  panel.replaceChildren(
    el("h2", {}, "Nothing was received yet"),
    waiting,
    el("p", {}, "Source ", names.length > 1 ? choice : el("strong", {}, visible(source)), ": its write key is ", el("code", { id: "write-key" }, visible(key)), ". Send a message with it:"),
    ...Object.entries(snippets(key)).map(([name, text]) =>
      el("section", {}, el("h3", {}, name), el("pre", { tabindex: "0", "aria-label": name }, visible(text)), copyButtons({ [name.split(" ")[0]]: text })),
    ),
  );
}
