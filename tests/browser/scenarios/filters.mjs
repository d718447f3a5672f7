// A browser follows one resource, one type, several types and only what is new: each stream holds
// exactly what belongs to it, from the past and live.

import assert from "node:assert/strict";

import { Sources, withPage } from "../browser.mjs";
import { log, send, writeSeveralKinds } from "../server.mjs";

export default () =>
  withPage(async (page) => {
    const { first, second, position: head } = await writeSeveralKinds();
    const sources = await Sources.in(page);
    const types = new Set((await log()).map((event) => event.type));
    const several = "type=entity_type.*&type=annotation.added";
    const open = (name, path) => sources.open(name, path, types);
    const streams = {
      one: await open("one", `/api/resources/${first.id}/events/stream?after=start`),
      created: await open("created", "/api/events/stream?after=start&type=resource.created"),
      several: await open("several", `/api/events/stream?after=start&${several}`),
      fresh: await open("fresh", "/api/events/stream"),
    };
    for (const frames of Object.values(streams)) {
      const live = await frames.signal("stemma.live");
      assert.deepEqual(JSON.parse(live.data), { position: head });
    }
    streams.fresh.expectPositions([]);

    await sources.create("From the page");
    await send("PUT", `/api/resources/${second.id}/entity_types/Moon`);
    await send("PUT", `/api/resources/${first.id}/entity_types/Moon`);
    const { position: last } = await send("DELETE", `/api/resources/${second.id}/entity_types/Moon`);

    const belongs = {
      one: (event) => event.stream === `resource-${first.id}`,
      created: (event) => event.type === "resource.created",
      several: (event) => /^entity_type\.|^annotation\.added$/.test(event.type),
      fresh: (event) => event.position > head,
    };
    await check(streams, belongs, last, types);
  });

/** Holds each stream against the log, as far as its page listens. */
async function check(streams, belongs, last, types) {
  const events = (await log()).filter((event) => types.has(event.type));
  assert.ok(last > 0 && events.length > 5);
  for (const [name, frames] of Object.entries(streams)) {
    const wanted = events.filter(belongs[name]).map((event) => event.position);
    assert.ok(wanted.length > 0, `${name} is to hold something`);
    await frames.event(wanted.at(-1));
    frames.expectPositions(wanted);
  }
  streams.one.expectSameBytesAs(streams.created);
  streams.one.expectSameBytesAs(streams.several);
  streams.fresh.expectSameBytesAs(streams.several);
}
