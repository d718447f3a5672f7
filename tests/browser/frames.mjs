// What one client of a stream saw, in order, and waiting for what is still to come.
//
// A frame is `{ type, id, data }`. Beside events of the log there are the stream's own signals
// (`stemma.…`) and what befell the client (`client.…`).

import assert from "node:assert/strict";

/** Longest wait for one thing. A client's own pause before it connects again is part of it. */
const WAIT_MS = 20_000;

const isEvent = (frame) => !/^(stemma|client)\./.test(frame.type);

export class Frames {
  #all = [];
  #waiting = new Set();

  push(frame) {
    this.#all.push(frame);
    for (const look of [...this.#waiting]) look();
  }

  get length() {
    return this.#all.length;
  }

  events() {
    return this.#all.filter(isEvent);
  }

  positions() {
    return this.events().map((frame) => Number(frame.id));
  }

  /** The first frame, from number `since` on, that meets a condition. */
  until(what, condition, since = 0) {
    return new Promise((resolve, reject) => {
      const finish = (settle, value) => {
        clearTimeout(timer);
        this.#waiting.delete(look);
        settle(value);
      };
      const look = () => {
        const found = this.#all.slice(since).find(condition);
        if (found) finish(resolve, found);
      };
      const timer = setTimeout(() => {
        const seen = this.#all.slice(-20).map((frame) => JSON.stringify(frame).slice(0, 200));
        finish(reject, new Error(`${what} did not come; the last frames:\n${seen.join("\n")}`));
      }, WAIT_MS);
      this.#waiting.add(look);
      look();
    });
  }

  /** The event at a position. */
  event(position) {
    const wanted = (frame) => isEvent(frame) && frame.id === String(position);
    return this.until(`position ${position}`, wanted);
  }

  /** A signal, from frame number `since` on. */
  signal(type, since = 0) {
    return this.until(type, (frame) => frame.type === type, since);
  }

  /** Holds that exactly these positions came, each once, in order. */
  expectPositions(positions) {
    assert.deepEqual(this.positions(), positions);
  }

  /** Holds that every position from the first to this one came, each once, in order. */
  expectAllUpTo(position) {
    this.expectPositions(Array.from({ length: position + 1 }, (_, index) => index));
  }

  /** Holds that another client was sent the same bytes for the events that both saw. */
  expectSameBytesAs(other) {
    const theirs = new Map(other.events().map((frame) => [frame.id, frame]));
    const shared = this.events().filter((frame) => theirs.has(frame.id));
    assert.ok(shared.length > 0, "the two clients saw no event in common");
    for (const { type, id, data } of shared) {
      const { type: theirType, data: theirData } = theirs.get(id);
      assert.deepEqual({ type, id, data }, { type: theirType, id, data: theirData });
    }
  }
}
