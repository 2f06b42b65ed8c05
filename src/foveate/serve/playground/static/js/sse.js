// Server-sent events from a fetch: the part of the standard that a POST can have (EventSource can only GET).
// https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

/** Turns pieces of text, cut anywhere, into events. */
export class EventParser {
  #rest = "";
  #name = "";
  #data = [];
  #first = true;

  /** @returns {{name: string, data: string}[]} the events that this piece completes. */
  push(piece) {
    if (this.#first && piece) {
      this.#first = false;
      if (piece.startsWith("\uFEFF")) piece = piece.slice(1);
    }
    this.#rest += piece;
    const done = [];
    for (;;) {
      const end = /\r\n|\n|\r/.exec(this.#rest);
      // A CR at the very end may be half of a CRLF: wait for what follows.
      if (!end || (end[0] === "\r" && end.index + 1 === this.#rest.length)) return done;
      const event = this.#line(this.#rest.slice(0, end.index));
      if (event) done.push(event);
      this.#rest = this.#rest.slice(end.index + end[0].length);
    }
  }

  #line(line) {
    if (line === "") {
      const event = this.#data.length ? { name: this.#name || "message", data: this.#data.join("\n") } : null;
      this.#name = "";
      this.#data = [];
      return event;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#name = value;
    return null;
  }
}

/** The connection went away in the middle of a stream. */
export class StreamBroken extends Error {}

/**
 * The events of a byte stream, as they come. Leaving the loop early cancels the stream, which tells the server.
 * @param {ReadableStream<Uint8Array>} stream
 */
export async function* eventsOf(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  const parser = new EventParser();
  let open = true;
  try {
    for (;;) {
      open = false; // a read that fails has closed the stream itself
      const { done, value } = await read(reader);
      if (done) return; // an event without its blank line is dropped, as the standard says
      open = true;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    if (open) await reader.cancel();
    reader.releaseLock();
  }
}

async function read(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // an abort
    throw new StreamBroken("the connection broke", { cause: error });
  }
}
