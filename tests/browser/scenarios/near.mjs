// A browser whose filter passes a thousand events over is told where it is, without an event, and
// comes back from there, not from the last event that it saw.

import assert from "node:assert/strict";

import { Sources, withPage } from "../browser.mjs";
import { Frames } from "../frames.mjs";
import { ask, create, send } from "../server.mjs";

/** `stream` says where it is after passing over this many. */
const PASSED_OVER = 1000;

export default () =>
  withPage(async (page) => {
    const { id, position: first } = await create("Seen");
    const bytes = await Bytes.of(page, "text/event-stream");
    const sources = await Sources.in(page);
    const path = "/api/events/stream?after=start&type=resource.created";
    const stream = await sources.open("created", path, ["resource.created"]);
    await stream.signal("stemma.live");

    const operations = Array.from({ length: PASSED_OVER }, (_, index) => ({
      op: "patch_resource",
      resource_id: id,
      patch: { name: `Renamed ${index}` },
    }));
    const { position: passed } = await send("POST", "/api/batch", { operations });
    assert.equal(passed, first + PASSED_OVER);
    await bytes.until(`id: ${passed}\n`);

    const asked = sources.asked.length;
    await ask("kill");
    await ask("start");
    const back = await sources.asked.signal("client.asked", asked);
    assert.equal(back.id, String(passed), "the Last-Event-ID that the browser came back with");
    const { position: last } = await sources.create("Seen too");
    await stream.event(last);
    stream.expectPositions([first, last]);
  });

/** What came to the page, byte by byte, of the first answer of a kind: more than the page sees. */
class Bytes {
  #text = "";
  #frames = new Frames();

  static async of(page, mimeType) {
    const bytes = new Bytes();
    const session = await page.context().newCDPSession(page);
    let wanted;
    session.on("Network.responseReceived", async ({ requestId, response }) => {
      if (wanted !== undefined || response.mimeType !== mimeType) return;
      wanted = requestId;
      const { bufferedData } = await session.send("Network.streamResourceContent", { requestId });
      bytes.#push(bufferedData);
    });
    session.on("Network.dataReceived", ({ requestId, data }) => {
      if (requestId === wanted && data !== undefined) bytes.#push(data);
    });
    await session.send("Network.enable");
    return bytes;
  }

  #push(base64) {
    this.#text += Buffer.from(base64, "base64").toString("latin1");
    this.#frames.push({ type: "client.bytes", data: this.#text });
  }

  /** Waits until the answer so far has this in it. */
  until(text) {
    return this.#frames.until(text, ({ data }) => data.includes(text));
  }
}
