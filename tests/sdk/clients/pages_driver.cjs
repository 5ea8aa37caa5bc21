// Opens pages one after another in one headless Chromium: ENVIRONMENT CHROMIUM.
//
// Each line of standard input is a JSON object with `url`. The answer is a line with
// `window.report` and the errors that the browser logged. Each page has a new profile, and stays open until the next.
"use strict";

const { createRequire } = require("node:module");
const { join } = require("node:path");
const { createInterface } = require("node:readline");

const [environment, executablePath] = process.argv.slice(2);
const { chromium } = createRequire(join(environment, "package.json"))("playwright-core");

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
const PATIENCE = { timeout: 10000 };

async function open(browser, { url }) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, locale: "en-GB" });
  const page = await context.newPage();
  const logged = [];
  page.on("console", (message) => message.type() === "error" && logged.push(message.text()));
  page.on("pageerror", (error) => logged.push(String(error)));
  await page.goto(url);
  let report = {};
  try {
    report = await (await page.waitForFunction(() => window.report, null, PATIENCE)).jsonValue();
  } catch (error) {
    logged.push(String(error));
  }
  return [{ ...report, logged }, context];
}

async function drive() {
  const browser = await chromium.launch({ executablePath, headless: true, args: FLAGS });
  let last;
  for await (const line of createInterface({ input: process.stdin })) {
    if (last) await last.close(); // until then the page goes on, with its retries
    const [report, context] = await open(browser, JSON.parse(line));
    last = context;
    process.stdout.write(`${JSON.stringify(report)}\n`);
  }
  await browser.close();
}

drive().catch((error) => {
  console.error(error);
  process.exit(1);
});
