// The actions of a page with another browser SDK, by the job in the address; the result is in `window.report`.
"use strict";

const job = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const report = { errors: [] };
const note = (error) => report.errors.push(String((error && (error.reason || error.message)) || error));

function addScript(source) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = source;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${source} did not load`));
    document.head.append(script);
  });
}

// RudderStack's SDK: everything that it supports is called once; a method takes its arguments from the job.
async function rudderstack() {
  await addScript("/rudderstack.js");
  const analytics = new window.rudderanalytics.RudderAnalytics();
  analytics.load(job.writeKey, job.server, { configUrl: job.server, logLevel: "ERROR", ...job.options });
  for (const [method, ...given] of job.calls) analytics[method](...given);
  await new Promise((resolve) => analytics.ready(resolve));
}

// analytics-next with Segment's consent wrapper: the categories are given, and may change later.
async function consent() {
  await addScript("/analytics-next.js");
  await addScript("/consent-tools.js");
  let changed = () => {};
  const wrap = window.ConsentTools.createWrapper({
    getCategories: () => job.categories,
    shouldLoadSegment: (context) => context.load({ consentModel: job.model }),
    registerOnConsentChanged: (listener) => (changed = listener),
  });
  const analytics = new window.AnalyticsNext.AnalyticsBrowser();
  analytics.on("error", note);
  wrap(analytics);
  await analytics.load({ writeKey: job.writeKey, cdnURL: job.server });
  await analytics.track("Bought");
  if (job.change) {
    job.categories = job.change;
    changed(job.change);
    await analytics.track("Bought again");
  }
}

// Segment's own snippet, with the address of another host: https://www.twilio.com/docs/segment quotes it.
async function snippet() {
  const analytics = (window.analytics = []);
  analytics.invoked = true;
  analytics.methods = ["track", "page", "identify", "ready", "on", "setAnonymousId", "register"];
  analytics.factory = (method) =>
    function (...given) {
      if (window.analytics.initialized) return window.analytics[method](...given);
      given.unshift(method);
      analytics.push(given);
      return analytics;
    };
  for (const method of analytics.methods) analytics[method] = analytics.factory(method);
  analytics.load = (key, options) => {
    const script = document.createElement("script");
    script.type = "text/javascript";
    script.async = true;
    script.setAttribute("data-global-segment-analytics-key", "analytics");
    script.src = `${job.server}/analytics.js/v1/${key}/analytics.min.js`;
    document.head.append(script);
    analytics._loadOptions = options;
  };
  analytics._writeKey = job.writeKey;
  analytics.SNIPPET_VERSION = "5.2.0";
  analytics.load(job.writeKey);
  analytics.page();
  await new Promise((resolve) => analytics.ready(resolve));
  await window.analytics.track("Bought");
}

({ rudderstack, consent, snippet })[job.way]()
  .catch(note)
  .finally(() => (window.report = report));
