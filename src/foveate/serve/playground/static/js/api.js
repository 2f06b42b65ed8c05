// Talking to the server: requests, streams, and one kind of error for all that can go wrong.

import { StreamBroken, eventsOf } from "./sse.js";

/**
 * What went wrong with a request.
 * `kind`: "busy" (try again after `retryAfter` seconds), "gone" (no server answers), "cut" (the answer broke off),
 * "key" (an API key is missing or wrong), "refused" (this request will never be served), "broken" (the server failed).
 */
export class ServerError extends Error {
  constructor(kind, message, { status = 0, retryAfter = null, code = null } = {}) {
    super(message);
    this.name = "ServerError";
    Object.assign(this, { kind, status, retryAfter, code });
  }
}

const DEFAULT_PATIENCE = 5; // seconds, where a busy server does not say how long

/** Seconds in a Retry-After header: a number or a date. */
export function retryAfterOf(header, now = Date.now()) {
  if (header === null) return null;
  const seconds = /^\s*\d+\s*$/.test(header) ? Number(header) : (Date.parse(header) - now) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : null;
}

async function errorOf(response) {
  const text = await response.text();
  let told = {};
  try {
    told = JSON.parse(text).error ?? {};
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    told = { message: text.slice(0, 500) }; // a proxy's own page: its words are all there is
  }
  const { status } = response;
  const retryAfter = retryAfterOf(response.headers.get("retry-after"));
  const message = told.message || `The server answered ${status} ${response.statusText}`;
  const facts = { status, retryAfter, code: told.code ?? null };
  if ([429, 502, 503, 504].includes(status)) {
    return new ServerError("busy", message, { ...facts, retryAfter: retryAfter ?? DEFAULT_PATIENCE });
  }
  if (status === 401 || status === 403) return new ServerError("key", message, facts);
  return new ServerError(status >= 500 ? "broken" : "refused", message, facts);
}

/** The server that this page came from. */
export class Server {
  /** @param {() => string} key the API key, empty for none; asked for with every request and kept nowhere here. */
  constructor(key) {
    this.key = key;
  }

  async #fetch(path, { signal, body } = {}) {
    const headers = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (this.key()) headers.Authorization = `Bearer ${this.key()}`;
    let response;
    try {
      // Relative to the page: it works behind a proxy that serves it under a path of its own.
      response = await fetch(new URL(path, document.baseURI), {
        method: body === undefined ? "GET" : "POST",
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
        cache: "no-store",
      });
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // an abort
      throw new ServerError("gone", "The server cannot be reached.");
    }
    if (!response.ok) throw await errorOf(response);
    return response;
  }

  /** A JSON reply. */
  async get(path, { signal } = {}) {
    return (await this.#fetch(path, { signal })).json();
  }

  /** Whether it answers at all. */
  async isThere() {
    try {
      await this.#fetch("health");
      return true;
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      return error.kind !== "gone";
    }
  }

  /**
   * A chat answer as it comes: {text}, {finish}, {usage, trace}, in this order.
   * @throws {ServerError} also where the stream ends before its end mark.
   */
  async *chat(body, { signal } = {}) {
    const response = await this.#fetch("v1/chat/completions", { body: { ...body, stream: true }, signal });
    try {
      for await (const { data } of eventsOf(response.body)) {
        if (data === "[DONE]") return;
        yield* chunkParts(JSON.parse(data));
      }
    } catch (error) {
      if (!(error instanceof StreamBroken)) throw error;
      throw new ServerError("cut", "The connection broke before the answer was complete.");
    }
    throw new ServerError("cut", "The answer broke off before its end.");
  }
}

function* chunkParts(chunk) {
  if (chunk.error) throw new ServerError("broken", chunk.error.message ?? "The server failed on this answer.");
  const choice = chunk.choices?.[0];
  if (choice?.delta?.content) yield { text: choice.delta.content };
  if (choice?.finish_reason) yield { finish: choice.finish_reason };
  if (chunk.usage || chunk.foveate_trace) {
    yield { usage: chunk.usage ?? null, trace: chunk.foveate_trace ?? null };
  }
}
