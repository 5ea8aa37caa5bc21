// One Node SDK as a client: HOST WRITE_KEY CALLS REPORT OPTIONS.
//
// CALLS is a JSON file with a list of {case, call, fields}, the fields under their wire names; {"$date": text} is a
// Date. OPTIONS is a JSON object: `environment` is the folder that the SDK is installed in, `package` its name, `kind`
// how it is driven, `settings` go to its constructor. All calls are made, then the SDK is flushed, and REPORT lists
// the calls and the errors of the SDK.
"use strict";

const { readFileSync, writeFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const { join } = require("node:path");

const [host, writeKey, callsFile, reportFile, optionsText] = process.argv.slice(2);
const options = JSON.parse(optionsText);
const sdk = createRequire(join(options.environment, "package.json"))(options.package);

const revive = (_, value) => (value && value.$date ? new Date(value.$date) : value);
const calls = JSON.parse(readFileSync(callsFile, "utf8"), revive);
const report = { calls: calls.length, made: 0, called_back: 0, errors: [] };

const note = (error) => report.errors.push(String((error && (error.reason || error.message)) || error));

// @segment/analytics-node of all versions, and forks of it.
async function driveSegment() {
  const analytics = new sdk.Analytics({ writeKey, host, ...options.settings });
  analytics.on("error", note);
  makeCalls(analytics);
  await analytics.closeAndFlush();
}

// analytics-node, and RudderStack's fork of it: a flush sends one batch, and each call gets its result.
async function driveLegacy() {
  const analytics = new sdk(writeKey, { host, dataPlaneUrl: host, errorHandler: note, ...options.settings });
  makeCalls(analytics);
  while (report.called_back < report.made) {
    await analytics.flush();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function makeCalls(analytics) {
  for (const { case: name, call, fields } of calls) {
    try {
      analytics[call](fields, (error) => {
        report.called_back += 1;
        if (error) note(error);
      });
      report.made += 1;
    } catch (error) {
      report.errors.push(`${name}: ${error.message}`);
    }
  }
}

// @jitsu/js: each call is one request, and its promise ends with it.
async function driveJitsu() {
  const analytics = sdk.jitsuAnalytics({ host, writeKey, s2s: true, errorPolicy: note, ...options.settings });
  const make = {
    identify: ({ userId, traits }) => analytics.identify(userId, traits),
    track: ({ event, properties }) => analytics.track(event, properties),
    page: ({ properties }) => analytics.page(properties),
    group: ({ groupId, traits }) => analytics.group(groupId, traits),
  };
  for (const { call, fields } of calls) {
    await make[call](fields);
    report.made += 1;
  }
}

const drive = { segment: driveSegment, legacy: driveLegacy, jitsu: driveJitsu }[options.kind];
drive().then(() => writeFileSync(reportFile, JSON.stringify(report)));
