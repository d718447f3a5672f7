// A browser that asks for what is not there is told so and goes on; one that comes back to a server
// which has lost its data is, too; one that asks for nonsense is refused and does not try again.

import assert from "node:assert/strict";

import { Sources, withPage } from "../browser.mjs";
import { ask, create, request } from "../server.mjs";

const TYPES = ["resource.created"];

export default () =>
  withPage(async (page) => {
    await create("First");
    await create("Second");
    const { position: head } = await create("Third");
    const sources = await Sources.in(page);

    const stream = await sources.open("ahead", "/api/events/stream?after=99999", TYPES);
    await expectGap(stream, "ahead_of_head", head, 0);
    const { position: next } = await sources.create("After the gap");
    await stream.event(next);
    stream.expectPositions([next]);

    await refused(sources, "/api/events/stream?after=nonsense", 400, "INVALID_POSITION");
    const nobody = "/api/resources/019a0000-0000-7000-8000-0000000000ff/events/stream";
    await refused(sources, nobody, 404, "RESOURCE_NOT_FOUND");

    const before = stream.length;
    // The browser is to find the new log with an event in it, however long that takes.
    await page.context().setOffline(true);
    await ask("kill");
    await ask("empty");
    await ask("start");
    const { position: anew } = await create("In an emptied log");
    assert.equal(anew, 0);
    await page.context().setOffline(false);
    await expectGap(stream, "ahead_of_head", anew, before);
    const { position: last } = await sources.create("After the loss");
    await stream.event(last);
    stream.expectPositions([next, last]);
  });

async function expectGap(stream, reason, head, since) {
  const gap = await stream.signal("stemma.gap", since);
  assert.deepEqual(JSON.parse(gap.data), { reason, position: head, head });
  const live = await stream.signal("stemma.live", since);
  assert.deepEqual(JSON.parse(live.data), { position: head });
}

async function refused(sources, path, status, code) {
  const stream = await sources.open(path, path, TYPES);
  await stream.signal("client.closed");
  const answer = await request("GET", path);
  assert.deepEqual([answer.status, JSON.parse(answer.text).code], [status, code]);
}
