// A browser whose filter passes a thousand events over is told where it is, without an event, and
// comes back from there, not from the last event that it saw.

import assert from "node:assert/strict";

import { Sources, withPage } from "../browser.mjs";
import { ask, create, send } from "../server.mjs";

/** `stream` says where it is after passing over this many. */
const PASSED_OVER = 1000;

export default () =>
  withPage(async (page) => {
    const { id, position: first } = await create("Seen");
    const sources = await Sources.in(page);
    const path = "/api/events/stream?after=start&type=resource.created";
    const stream = await sources.open("created", path, ["resource.created"]);
    await stream.signal("stemma.live");
    await tellOfBytes(page, stream);

    const before = stream.length;
    const operations = Array.from({ length: PASSED_OVER }, (_, index) => ({
      op: "patch_resource",
      resource_id: id,
      patch: { name: `Renamed ${index}` },
    }));
    const { position: passed } = await send("POST", "/api/batch", { operations });
    assert.equal(passed, first + PASSED_OVER);
    await stream.signal("client.bytes", before);

    const asked = sources.asked.length;
    await ask("kill");
    await ask("start");
    const back = await sources.asked.signal("client.asked", asked);
    assert.equal(back.id, String(passed), "the Last-Event-ID that the browser came back with");
    const { position: last } = await sources.create("Seen too");
    await stream.event(last);
    stream.expectPositions([first, last]);
  });

/** Makes known when bytes come that the page itself cannot see. */
async function tellOfBytes(page, stream) {
  const session = await page.context().newCDPSession(page);
  session.on("Network.dataReceived", () => stream.push({ type: "client.bytes" }));
  await session.send("Network.enable");
}
