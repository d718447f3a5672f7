// The `EventSource` that Node programs use catches up, goes live and comes back by itself.

import assert from "node:assert/strict";

import { EventSource } from "eventsource";

import { Frames } from "../frames.mjs";
import { openWithFetch } from "../stream-fetch.mjs";
import { ask, create, log, url, writeSeveralKinds } from "../server.mjs";

export default async () => {
  const { position: head } = await writeSeveralKinds();
  const types = new Set((await log()).map((event) => event.type));
  const stream = new Frames();
  const source = open("/api/events/stream?after=start", types, stream);
  await stream.signal("stemma.live");
  stream.expectAllUpTo(head);
  const { position: live } = await create("While the stream is open");
  await stream.event(live);

  const before = stream.length;
  await ask("kill");
  await stream.signal("client.interrupted", before);
  await ask("start");
  const { position: last } = await create("Written after the crash");
  await stream.event(last);
  stream.expectAllUpTo(last);
  const back = await stream.signal("client.asked", before);
  assert.equal(back.id, String(live), "the Last-Event-ID that the client came back with");

  const raw = await openWithFetch("/api/events/stream?after=start");
  await raw.frames.event(last);
  stream.expectSameBytesAs(raw.frames);
  await raw.close();
  source.close();
};

function open(path, types, frames) {
  const source = new EventSource(url + path, {
    fetch: (input, init) => {
      const id = new Headers(init.headers).get("last-event-id");
      frames.push({ type: "client.asked", id });
      return fetch(input, init);
    },
  });
  source.addEventListener("error", () => frames.push({ type: "client.interrupted" }));
  for (const type of [...types, "message", "stemma.live", "stemma.gap"])
    source.addEventListener(type, ({ type, lastEventId, data }) =>
      frames.push({ type, id: lastEventId, data }),
    );
  return source;
}
