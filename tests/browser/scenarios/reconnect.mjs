// A browser catches up from the start, goes live, and finds its way back by itself after the
// server was killed and after it was stopped: every position once, in order, with the same bytes.

import assert from "node:assert/strict";

import { Sources, withPage } from "../browser.mjs";
import { openWithFetch } from "../stream-fetch.mjs";
import { ask, create, log, send, writeSeveralKinds } from "../server.mjs";

/** Enough events that catching up takes several chunks of the stream. */
const MANY = 600;

export default () =>
  withPage(async (page) => {
    await writeSeveralKinds();
    const { position: head } = await send("POST", "/api/batch", { operations: many() });
    const sources = await Sources.in(page);
    const types = new Set((await log()).map((event) => event.type));
    const stream = await sources.open("all", "/api/events/stream?after=start", types);
    const live = await stream.signal("stemma.live");
    assert.deepEqual([live.id, JSON.parse(live.data)], [String(head), { position: head }]);
    stream.expectAllUpTo(head);

    const { position: written } = await sources.create("While the stream is open");
    const seen = JSON.parse((await stream.event(written)).data);
    assert.equal(seen.data.name, "While the stream is open");

    const afterCrash = await interrupted("kill", stream, sources, written);
    const afterStop = await interrupted("stop", stream, sources, afterCrash);

    assert.equal(afterStop, head + 3);
    stream.expectAllUpTo(afterStop);
    const again = await openWithFetch("/api/events/stream?after=start");
    await again.frames.signal("stemma.live");
    again.frames.expectAllUpTo(afterStop);
    stream.expectSameBytesAs(again.frames);
    await again.close();
  });

const many = () =>
  Array.from({ length: MANY }, (_, index) => ({
    op: "create_resource",
    name: `Number ${index}`,
    media_type: "text/plain",
    content: `The ${index}th of many`,
    metadata: { padding: "·".repeat(200) },
  }));

/** Ends and starts the server; something is written before the browser is back. */
async function interrupted(how, stream, sources, last) {
  const [frames, asked] = [stream.length, sources.asked.length];
  await ask(how);
  await stream.signal("client.interrupted", frames);
  await ask("start");
  const { position } = await create(`Written after ${how}`);
  await stream.event(position);
  const { id } = await sources.asked.signal("client.asked", asked);
  assert.equal(id, String(last), "the Last-Event-ID that the browser came back with");
  await stream.signal("stemma.live", frames);
  return position;
}
