// Pages that somebody uploaded are handed out so that their scripts do not run as the server's
// origin: most as files; and where one is shown, or would be, its policy stops the script.

import assert from "node:assert/strict";

import { withPage } from "../browser.mjs";
import { create, log, url } from "../server.mjs";

const SCRIPT = `console.log("it ran");
fetch("/api/resources", { method: "POST", headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ name: "Written by it", media_type: "text/plain", content: "x" }) });`;
const HTML = `<!doctype html><title>t</title><p id="shown">Shown</p><script>${SCRIPT}</script>`;
const XHTML = `<html xmlns="http://www.w3.org/1999/xhtml"><body><p id="shown">Shown</p><script>${SCRIPT}</script></body></html>`;
const SVG = `<svg xmlns="http://www.w3.org/2000/svg"><text id="shown">Shown</text><script>${SCRIPT}</script></svg>`;

/** Media type and content. */
const PAGES = [
  ["text/html", HTML],
  ["text/html; charset=utf-8", HTML],
  ["application/xhtml+xml", XHTML],
  ["image/svg+xml", SVG],
  ["text/xml", XHTML],
  ["application/xml", XHTML],
];
/** Shown in the browser's window, but without running. */
const SHOWN = [
  ["application/atom+xml", XHTML],
  ["text/plain", HTML],
];

export default () =>
  withPage(async (page) => {
    const ran = [];
    page.on("console", (message) => ran.push(message.text()));
    const upload = async ([media_type, content]) => {
      const { id } = await create(media_type, { media_type, content });
      return { media_type, content, address: `${url}/api/resources/${id}/content` };
    };
    const pages = await Promise.all(PAGES.map(upload));
    const shown = await Promise.all(SHOWN.map(upload));
    const events = (await log()).length;

    await page.goto(`${url}/docs`);
    for (const { address } of pages) await isHandedOutAsFile(page, address);
    for (const { address } of shown) await isShown(page, address);
    await withoutDisposition(page, pages);
    assert.deepEqual(ran.filter((text) => text === "it ran"), []);
    assert.equal((await log()).length, events, "a script wrote to the log");

    for (const uploaded of pages) await wouldRunElsewhere(page, uploaded);
    assert.ok((await log()).length > events, "the scripts would write, were they let");
  });

async function isHandedOutAsFile(page, address) {
  const before = page.url();
  const download = page.waitForEvent("download").catch(() => null);
  // Going there ends without a page, which is told as a failure.
  const went = await page.goto(address).catch(() => null);
  assert.equal(went, null, `${address} was shown`);
  assert.notEqual(await download, null, `${address} was not handed out`);
  assert.equal(page.url(), before);
}

async function isShown(page, address) {
  const response = await page.goto(address, { waitUntil: "load" });
  assert.equal(response.status(), 200);
  assert.equal(page.url(), address);
}

/** A browser that showed the files all the same would not run them: the policy stands by itself. */
async function withoutDisposition(page, pages) {
  await page.route("**/content", async (route) => {
    const response = await route.fetch();
    const headers = response.headers();
    assert.equal(headers["content-disposition"], "attachment");
    delete headers["content-disposition"];
    await route.fulfill({ response, headers });
  });
  for (const { address } of pages) {
    await isShown(page, address);
    await page.locator("#shown").waitFor({ state: "attached" });
  }
  await page.unroute("**/content");
}

/** The same page without our headers does run: were it let, this test would see it. */
async function wouldRunElsewhere(page, { address, media_type, content }) {
  const asked = `${address}?unguarded`;
  await page.route(asked, (route) => route.fulfill({ contentType: media_type, body: content }));
  const [wrote] = await Promise.all([
    page.waitForResponse((response) => response.request().method() === "POST"),
    page.waitForEvent("console", (message) => message.text() === "it ran"),
    page.goto(asked),
  ]);
  assert.equal(wrote.status(), 201);
  await page.unroute(asked);
}
