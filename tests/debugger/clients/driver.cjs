// Drives headless Chromium: OPTIONS, then on standard input one JSON object a line, `{code, argument}`.
//
// `code` is the body of an async function of `page`, `context`, `browser` and `argument`; what it returns is written to
// standard output as `{result}`, what it throws as `{error}`.  The browser stays until standard input is closed.
"use strict";

const { createRequire } = require("node:module");
const { join } = require("node:path");
const { createInterface } = require("node:readline");

const options = JSON.parse(process.argv[2]);
const { chromium } = createRequire(join(options.environment, "package.json"))("playwright-core");
const AsyncFunction = (async () => {}).constructor;
const FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"];

async function drive() {
  const browser = await chromium.launch({ executablePath: options.chromium, headless: true, args: FLAGS });
  const context = await browser.newContext({ locale: "en-GB", timezoneId: "UTC", viewport: { width: 1360, height: 860 } });
  context.setDefaultTimeout(20000);
  const page = await context.newPage();
  const logged = [];
  page.on("console", (message) => message.type() === "error" && logged.push(message.text()));
  page.on("pageerror", (error) => logged.push(String(error)));
  page.on("dialog", (dialog) => logged.push(`dialog: ${dialog.message()}`) && dialog.dismiss());
  for await (const line of createInterface({ input: process.stdin })) {
    const { code, argument } = JSON.parse(line);
    let answer;
    try {
      const run = new AsyncFunction("page", "context", "browser", "logged", "argument", "require", code);
      answer = { result: (await run(page, context, browser, logged, argument, require)) ?? null };
    } catch (error) {
      answer = { error: String(error.stack ?? error) };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  await browser.close();
}

drive().catch((error) => {
  console.error(error);
  process.exit(1);
});
