// A stream read by `fetch`, frame by frame as they are sent: a client without any convenience.

import assert from "node:assert/strict";

import { Frames } from "./frames.mjs";
import { url } from "./server.mjs";

/** Opens a stream; `close` ends it, `ended` settles when it has ended, whoever did it. */
export async function openWithFetch(path, headers = {}) {
  const controller = new AbortController();
  const response = await fetch(url + path, { headers, signal: controller.signal });
  assert.equal(response.status, 200, response.statusText);
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  const frames = new Frames();
  const ended = read(response.body, frames).catch(() => {});
  const close = async () => {
    controller.abort();
    await ended;
  };
  return { frames, ended, close };
}

async function read(body, frames) {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true });
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      frames.push(parse(rest.slice(0, end)));
      rest = rest.slice(end + 2);
    }
  }
}

/** A frame without `data:` is no event to any client; here it is shown as `client.bare`. */
function parse(text) {
  const frame = { type: "message", id: undefined, data: undefined };
  for (const line of text.split("\n")) {
    const [, field, value] = /^([^:]*): ?(.*)$/s.exec(line) ?? [null, line, ""];
    if (field === "id") frame.id = value;
    if (field === "event") frame.type = value;
    if (field === "retry") frame.retry = value;
    if (field === "data") frame.data = frame.data === undefined ? value : `${frame.data}\n${value}`;
  }
  if (frame.data === undefined) frame.type = "client.bare";
  return frame;
}
