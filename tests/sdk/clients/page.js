// The actions of a page with the browser SDK, by `window.job`; the result is in `window.report`.
//
// `job.way` is how the SDK got into the page: "snippet" as Segment's snippet does it (a stub takes the first calls, the
// standalone bundle takes over), "bundle" as an application does it whose bundle contains the npm package.
// `job.leave` is the address that the page goes to after all calls.
"use strict";

const METHODS = ["identify", "track", "page", "screen", "group", "alias", "ready", "on"];
const CALLS_BEFORE_LOADED = 2;

const ARGUMENTS = {
  identify: ({ userId, traits }) => [userId, traits],
  track: ({ event, properties }) => [event, properties],
  page: ({ category, name, properties }) => [category, name, properties],
  screen: ({ category, name, properties }) => [category, name, properties],
  group: ({ groupId, traits }) => [groupId, traits],
  alias: ({ userId, previousId }) => [userId, previousId],
};

const report = { calls: 0, resolved: 0, errors: [] };
const note = (error) => report.errors.push(String((error && (error.reason || error.message)) || error));

const revive = (_, value) => (value && value.$date ? new Date(value.$date) : value);
const job = JSON.parse(JSON.stringify(window.job), revive);

function addScript(source) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = source;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${source} did not load`));
    document.head.append(script);
  });
}

// Makes one call. The SDK itself returns a promise, the snippet's stub does not, so there a callback ends it.
async function call(analytics, { call: method, fields }) {
  report.calls += 1;
  const { context, integrations, timestamp, messageId } = fields;
  const options = JSON.parse(JSON.stringify({ context, integrations, messageId }));
  if (timestamp) options.timestamp = timestamp;
  const given = [...ARGUMENTS[method](fields), options];
  if (Array.isArray(analytics)) await new Promise((resolve) => analytics[method](...given, resolve));
  else await analytics[method](...given);
  report.resolved += 1;
}

async function loadBySnippet() {
  const stub = (window.analytics = []);
  stub._writeKey = job.write_key;
  stub._cdn = job.cdn_url;
  stub._loadOptions = job.load_options;
  for (const method of METHODS) stub[method] = (...given) => stub.push([method, ...given]);
  const ready = new Promise((resolve) => stub.ready(resolve));
  stub.on("error", note);
  const early = job.calls.splice(0, CALLS_BEFORE_LOADED).map((each) => call(stub, each));
  await addScript("/sdk/standalone.js");
  await Promise.all([ready, ...early]);
  return window.analytics;
}

async function loadFromBundle() {
  await addScript("/sdk/index.js");
  const { AnalyticsBrowser } = window.AnalyticsNext;
  const settings = { writeKey: job.write_key, cdnURL: job.cdn_url, cdnSettings: job.cdn_settings || undefined };
  const analytics = AnalyticsBrowser.load(settings, job.load_options);
  analytics.on("error", note);
  const [instance] = await analytics;
  return instance;
}

async function run() {
  const analytics = await { snippet: loadBySnippet, bundle: loadFromBundle }[job.way]();
  if (job.leave === "unsent") {
    for (const each of job.calls) call(analytics, each).catch(note);
  } else {
    for (const each of job.calls) await call(analytics, each);
  }
}

// Counts the requests in flight, so that the page can leave while there are some.
let underway = 0;
const realFetch = window.fetch;
window.fetch = (...given) => {
  underway += 1;
  return realFetch(...given);
};

async function leaveWhenUnderway() {
  const before = underway;
  const expected = job.calls.length;
  const running = run();
  while (underway - before < expected + job.fetches_to_load) await new Promise((resolve) => setTimeout(resolve, 1));
  location.assign(job.leave_to);
  return running;
}

if (job.leave === "unsent") {
  leaveWhenUnderway().catch(note);
} else {
  run()
    .catch(note)
    .finally(() => {
      window.report = report;
      if (job.leave === "buffered") location.assign(job.leave_to);
    });
}
