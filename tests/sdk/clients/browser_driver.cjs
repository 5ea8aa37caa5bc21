// Opens a page in headless Chromium: URL REPORT OPTIONS.
//
// OPTIONS is a JSON object: `environment` is the folder that playwright-core is installed in, `chromium` the browser's
// program, `until` the end: "report" for the page's own report, or a path that the page must arrive at. REPORT then
// gets the report of the page and the log of the browser. The browser stays until standard input is closed.
"use strict";

const { renameSync, writeFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const { join } = require("node:path");

const [url, reportFile, optionsText] = process.argv.slice(2);
const options = JSON.parse(optionsText);
const { chromium } = createRequire(join(options.environment, "package.json"))("playwright-core");

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const stdinClosed = new Promise((resolve) => process.stdin.resume().on("end", resolve));

async function drive() {
  const browser = await chromium.launch({ executablePath: options.chromium, headless: true, args: FLAGS });
  const context = await browser.newContext({ ignoreHTTPSErrors: true, locale: "en-GB" });
  const page = await context.newPage();
  const logged = [];
  page.on("console", (message) => message.type() === "error" && logged.push(message.text()));
  page.on("pageerror", (error) => logged.push(String(error)));
  await page.goto(url);
  let report = {};
  if (options.until === "report") {
    report = await (await page.waitForFunction(() => window.report, null, { timeout: 30000 })).jsonValue();
  } else {
    await page.waitForURL((where) => where.pathname === options.until, { timeout: 30000 });
  }
  writeFileSync(`${reportFile}.part`, JSON.stringify({ ...report, logged, version: browser.version() }));
  renameSync(`${reportFile}.part`, reportFile);
  await stdinClosed;
  await browser.close();
}

drive().catch((error) => {
  console.error(error);
  process.exit(1);
});
