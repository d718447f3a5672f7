// A program that reads the stream by `fetch` keeps the last id itself and goes on from it.

import assert from "node:assert/strict";

import { openWithFetch } from "../stream-fetch.mjs";
import { ask, create, writeSeveralKinds } from "../server.mjs";

const ALL = "/api/events/stream?after=start";

export default async () => {
  const { position: head } = await writeSeveralKinds();
  const whole = await openWithFetch(ALL);
  assert.equal((await whole.frames.signal("client.bare")).retry, "2000");
  await whole.frames.signal("stemma.live");
  whole.frames.expectAllUpTo(head);

  await ask("kill");
  await whole.ended;
  await ask("start");
  const { position: missed } = await create("Written while nobody listened");
  // The header, not the address, says where to go on.
  const rest = await openWithFetch(ALL, { "Last-Event-ID": whole.frames.positions().at(-1) });
  await rest.frames.event(missed);
  const { position: last } = await create("Written while the second stream is open");
  await rest.frames.event(last);
  rest.frames.expectPositions([missed, last]);
  await rest.close();

  const again = await openWithFetch(ALL, { "Last-Event-ID": "" });
  await again.frames.event(last);
  again.frames.expectAllUpTo(last);
  again.frames.expectSameBytesAs(whole.frames);
  again.frames.expectSameBytesAs(rest.frames);
  await again.close();

  await unusable("nonsense", "unusable_last_event_id", last);
  await unusable(String(last + 1), "ahead_of_head", last);
};

/** What cannot be gone on from is told on the stream, which then is live. */
async function unusable(id, reason, head) {
  const stream = await openWithFetch(ALL, { "Last-Event-ID": id });
  const gap = await stream.frames.signal("stemma.gap");
  assert.deepEqual(JSON.parse(gap.data), { reason, position: head, head });
  const live = await stream.frames.signal("stemma.live");
  assert.deepEqual(JSON.parse(live.data), { position: head });
  stream.frames.expectPositions([]);
  await stream.close();
}
