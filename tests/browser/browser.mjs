// Chromium, a page of the server's own origin in it, and event sources in that page.

import { chromium } from "playwright-core";

import { Frames } from "./frames.mjs";
import { url } from "./server.mjs";

/** Longest wait for one step of the browser's. */
const STEP_MS = 20_000;

const ARGS = [
  "--headless=new",
  "--no-sandbox",
  "--no-proxy-server",
  // No name is looked up: nothing but loopback can be reached.
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

/** Opens a browser with one empty page for as long as `work` takes. */
export async function withPage(work) {
  const executablePath = process.env.CHROMIUM;
  const browser = await chromium.launch({ executablePath, args: ARGS, timeout: STEP_MS });
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(STEP_MS);
    return await work(page);
  } finally {
    await browser.close();
  }
}

/** Event sources of one page, which stands at `/docs`. */
export class Sources {
  #page;
  #byName = new Map();
  /** The `Last-Event-ID` of every answered stream, in order; null where there was none. */
  asked = new Frames();

  static async in(page) {
    const sources = new Sources();
    sources.#page = page;
    page.on("response", async (response) => {
      if (response.request().resourceType() !== "eventsource") return;
      const id = (await response.request().allHeaders())["last-event-id"] ?? null;
      sources.asked.push({ type: "client.asked", id, data: response.url() });
    });
    await page.exposeFunction("tell", (name, frame) => sources.#byName.get(name).push(frame));
    await page.goto(`${url}/docs`);
    return sources;
  }

  /** Opens an `EventSource` that listens to these types and to the stream's signals. */
  async open(name, path, types) {
    const frames = new Frames();
    this.#byName.set(name, frames);
    const asked = this.asked.length;
    const wanted = [...types, "message", "stemma.live", "stemma.gap"];
    await this.#page.evaluate(openInPage, { name, path, types: wanted });
    await this.asked.signal("client.asked", asked);
    return frames;
  }

  /** Writes a resource from within the page. */
  create(name) {
    return this.#page.evaluate(createInPage, name);
  }
}

// The functions below run in the page; they see nothing of this file.

function openInPage({ name, path, types }) {
  const source = new EventSource(path);
  source.onopen = () => window.tell(name, { type: "client.open" });
  source.onerror = () => {
    const isOver = source.readyState === EventSource.CLOSED;
    window.tell(name, { type: isOver ? "client.closed" : "client.interrupted" });
  };
  for (const type of types)
    source.addEventListener(type, ({ type, lastEventId, data }) =>
      window.tell(name, { type, id: lastEventId, data }),
    );
}

async function createInPage(name) {
  const response = await fetch("/api/resources", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ name, media_type: "text/plain", content: "Written in the browser." }),
  });
  if (response.status !== 201) throw new Error(await response.text());
  const { id } = await response.json();
  return { id, position: Number(response.headers.get("stemma-position")) };
}
