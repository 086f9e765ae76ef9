// Opens page.html in a headless Chromium and writes what the browser itself says of its localStorage.
//
// Writes, beside this file:
//   export.json                 one flat object, as `JSON.stringify(localStorage, null, 1)` gives it
//   export-per-origin.json      { origin: { key: value } }, two origins
//   export-pairs.json           [[key, value], ...], one origin
//   export-storage-state.json   Playwright's `context.storageState()`, two origins
//   export-lone-surrogate.json  a flat object whose text cannot be UTF-8; JSON holds it as escapes
//
// Nothing here writes an entry of its own, and the ports are fixed, since they are part of each origin: a second run
// gives the same bytes. CHROMIUM names another browser than /usr/bin/chromium.

import { createServer } from "node:http";
import { readFile, writeFile } from "node:fs/promises";
import { once } from "node:events";
import { chromium } from "playwright-core";

const HERE = new URL("./", import.meta.url);
const FIRST_ORIGIN = "http://127.0.0.1:8731";
const SECOND_ORIGIN = "http://localhost:8732";
const PAGE_TIMEOUT_MS = 60_000;
const FILES = new Map([
  ["/page.html", "text/html; charset=utf-8"],
  ["/page.js", "text/javascript; charset=utf-8"],
]);

async function serve(port) {
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, FIRST_ORIGIN).pathname;
    const type = FILES.get(path);
    if (!type) return response.writeHead(404).end();
    const body = await readFile(new URL(`.${path}`, HERE));
    return response.writeHead(200, { "content-type": type, "cache-control": "no-store" }).end(body);
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return server;
}

/** Opens the page in `context` and answers once it has stored its `set`. */
async function fill(context, origin, set) {
  const page = await context.newPage();
  page.setDefaultTimeout(PAGE_TIMEOUT_MS);
  let failure;
  page.on("pageerror", (error) => { failure = error; });
  await page.goto(`${origin}/page.html?set=${set}`);
  if (failure) throw failure;
  await page.waitForSelector("html[data-entries]");
  return page;
}

/** Every entry by number, which finds keys like `length` and `getItem` too. */
const pairs = (page) => page.evaluate(() =>
  JSON.stringify(Array.from({ length: localStorage.length }, (_, i) => {
    const key = localStorage.key(i);
    return [key, localStorage.getItem(key)];
  }), null, 1));

/** The flat form. `JSON.stringify` loses keys that are names of Storage's own members, so the two are compared. */
async function flat(page) {
  const text = await page.evaluate(() => JSON.stringify(localStorage, null, 1));
  const found = Object.entries(JSON.parse(text)).sort(byKey);
  const stored = JSON.parse(await pairs(page)).sort(byKey);
  if (JSON.stringify(found) !== JSON.stringify(stored)) {
    throw new Error(`the flat form holds ${found.length} entries and differs from the ${stored.length} that are stored`);
  }
  return text;
}

const byKey = ([a], [b]) => (a < b ? -1 : a > b ? 1 : 0);

async function write(name, text) {
  await writeFile(new URL(name, HERE), text);
  console.log(`${name}: ${Buffer.byteLength(text)} bytes`);
}

async function exportFull(browser) {
  const context = await browser.newContext();
  await write("export.json", await flat(await fill(context, FIRST_ORIGIN, "full")));
  await context.close();
}

async function exportParts(browser) {
  const context = await browser.newContext();
  const first = await pairs(await fill(context, FIRST_ORIGIN, "part"));
  const second = await pairs(await fill(context, SECOND_ORIGIN, "other"));
  await write("export-pairs.json", second);
  await write("export-per-origin.json", JSON.stringify({
    [FIRST_ORIGIN]: Object.fromEntries(JSON.parse(first)),
    [SECOND_ORIGIN]: Object.fromEntries(JSON.parse(second)),
  }, null, 1));
  await write("export-storage-state.json", JSON.stringify(await context.storageState(), null, 1));
  await context.close();
}

async function exportLone(browser) {
  const context = await browser.newContext();
  await write("export-lone-surrogate.json", await flat(await fill(context, FIRST_ORIGIN, "lone")));
  await context.close();
}

const servers = [];
let browser;
try {
  servers.push(await serve(8731), await serve(8732));
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    headless: true,
    args: [
      "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--disable-quic",
    ],
  });
  console.log(`Chromium ${browser.version()}`);
  await exportFull(browser);
  await exportParts(browser);
  await exportLone(browser);
} finally {
  await browser?.close();
  for (const server of servers) server.close();
}
