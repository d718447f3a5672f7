// The server under test: requests to it, and word to whoever started it to end and start it.

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import readline from "node:readline";

/** `http://127.0.0.1:PORT`, the same after every restart. */
export const url = new URL(process.env.SERVER_URL).origin;

const answers = readline.createInterface({ input: process.stdin });
answers.once("close", () => {
  console.error("whoever started this program is gone");
  process.exit(1);
});

/**
 * Says one of `kill` (as a power cut would), `stop` (in order), `empty` (its data are gone) and
 * `start` (again, on the same port), and waits until it is done.
 */
export async function ask(word) {
  const answered = once(answers, "line");
  process.stdout.write(`${word}\n`);
  assert.deepEqual(await answered, [`${word} done`]);
}

/** A request on a connection of its own, which no restart can have broken; gives status and all. */
export async function request(method, path, body) {
  const text = body === undefined ? "" : JSON.stringify(body);
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  headers["Content-Length"] = Buffer.byteLength(text);
  const sent = http.request(url + path, { method, headers, agent: false });
  const answered = once(sent, "response");
  sent.end(text);
  const [response] = await answered;
  const chunks = [];
  for await (const chunk of response) chunks.push(chunk);
  return {
    status: response.statusCode,
    text: Buffer.concat(chunks).toString("utf8"),
    position: Number(response.headers["stemma-position"]),
  };
}

/** A request that succeeds; gives the JSON of its answer and the position. */
export async function send(method, path, body) {
  const { status, text, position } = await request(method, path, body);
  assert.ok(status >= 200 && status < 300, `${method} ${path}: ${status} ${text}`);
  return { json: text === "" ? null : JSON.parse(text), position };
}

/** Makes a resource; `more` may replace any field. */
export async function create(name, more = {}) {
  const fields = { name, media_type: "text/plain", content: `The text of ${name}.`, ...more };
  const { json, position } = await send("POST", "/api/resources", fields);
  return { id: json.id, position };
}

/** Every event of the log, read page by page. */
export async function log() {
  const events = [];
  for (;;) {
    const after = events.length === 0 ? "start" : events.at(-1).position;
    const { json } = await send("GET", `/api/events?after=${after}&limit=500`);
    if (json.items.length === 0) return events;
    events.push(...json.items);
  }
}

/** Writes one event of several kinds, with text that a line-based format could trip over. */
export async function writeSeveralKinds() {
  const awkward = "one\r\ntwo\n\nid: 9\nevent: x\ndata: y\u2028z \u{1F52D} \u0000";
  const first = await create("First", { metadata: { awkward } });
  const second = await create("Second", { entity_types: ["Person"] });
  await send("PUT", `/api/resources/${second.id}/entity_types/Place`);
  const { position } = await send("POST", `/api/resources/${first.id}/annotations`, {
    motivation: "commenting",
    body: { type: "TextualBody", value: "A remark" },
    target: { selector: { type: "TextQuoteSelector", exact: "text" } },
  });
  return { first, second, position };
}
