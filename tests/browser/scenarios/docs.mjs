// The page that describes the API: everything on it is of the server's own origin, it shows every
// route and every error code, its filter works, and its policy stops a script that slips in.

import assert from "node:assert/strict";

import { withPage } from "../browser.mjs";
import { send, url } from "../server.mjs";

export default () =>
  withPage(async (page) => {
    const [requested, complaints] = [[], []];
    page.on("request", (request) => requested.push(request.url()));
    page.on("requestfailed", (request) => complaints.push(`failed: ${request.url()}`));
    page.on("pageerror", (error) => complaints.push(`error: ${error.message}`));
    page.on("console", (message) => complaints.push(`console: ${message.text()}`));
    page.on("response", (response) => {
      if (response.status() >= 400) complaints.push(`${response.status()}: ${response.url()}`);
    });

    await page.goto(`${url}/`);
    await page.locator("h2#Errors").waitFor();
    assert.equal(page.url(), `${url}/docs`);
    assert.deepEqual(requested.filter((asked) => new URL(asked).origin !== url), []);
    assert.deepEqual(complaints, []);

    const { json: api } = await send("GET", "/api/openapi.json");
    await showsEveryRoute(page, api);
    await filters(page);
    const codes = await page.locator("h2#Errors + table code").allTextContents();
    assert.deepEqual(codes, api["x-error-codes"].map(({ code }) => code));
    assert.deepEqual(complaints, []);
    assert.equal(await page.evaluate(slipIn), "script-src-elem");
    assert.equal(await page.evaluate(() => window.slippedIn), undefined);
  });

async function showsEveryRoute(page, api) {
  const described = Object.entries(api.paths).flatMap(([path, methods]) =>
    // HEAD is GET without the body, and has no entry of its own.
    Object.keys(methods)
      .filter((method) => method !== "head")
      .map((method) => `${method.toUpperCase()} ${path}`),
  );
  assert.ok(described.includes("GET /api/events/stream"), described.join("\n"));
  const shown = await page.locator("details[data-text] > summary").evaluateAll((summaries) =>
    summaries.map((summary) => {
      const [method, path] = summary.querySelectorAll("code");
      return `${method.textContent} ${path.textContent}`;
    }),
  );
  assert.deepEqual(shown.sort(), described.sort());
}

async function filters(page) {
  const visible = page.locator("details[data-text]:visible");
  const all = await visible.count();
  await page.locator("#filter").fill("/events/stream");
  const paths = await visible.locator("summary > code:nth-of-type(2)").allTextContents();
  assert.ok(paths.length > 0 && paths.length < all);
  assert.deepEqual(paths.filter((path) => !path.includes("/events/stream")), []);
  await page.locator("#filter").fill("");
  assert.equal(await visible.count(), all);
}

/** Runs in the page: puts a script into it and gives the rule that stopped it. */
function slipIn() {
  return new Promise((resolve) => {
    document.addEventListener("securitypolicyviolation", (violation) =>
      resolve(violation.effectiveDirective),
    );
    const script = document.createElement("script");
    script.textContent = "window.slippedIn = true";
    document.head.append(script);
  });
}
