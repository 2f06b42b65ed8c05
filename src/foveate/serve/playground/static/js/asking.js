// One run from question to answer: the stream, its times, and patience with a busy server.

import { ServerError } from "./api.js";

const MOST_TRIES = 5;
const LONGEST_WAIT = 120; // seconds; a server that asks for more is told of, not waited for

/**
 * Fills a run with the answer as it comes.
 * @param {Server} server
 * @param {object} run see `newRun`; changed in place.
 * @param {object} body of the request.
 * @param {object} hooks `signal`; `changed()` after each change; `wait(error)`, which ends when it is time to try again.
 */
export async function perform(server, run, body, { signal, changed, wait }) {
  for (let tries = 1; ; tries += 1) {
    try {
      await once(server, run, body, { signal, changed });
      return;
    } catch (error) {
      if (error.name === "AbortError") return end(run, "stopped", changed);
      if (!(error instanceof ServerError)) throw error;
      const hopeless = error.kind !== "busy" || tries >= MOST_TRIES || error.retryAfter > LONGEST_WAIT;
      if (hopeless) return fail(run, error, changed);
      if (!(await wait(error))) return fail(run, error, changed);
    }
  }
}

async function once(server, run, body, { signal, changed }) {
  Object.assign(run, { answer: "", finish: null, usage: null, trace: null, first: null, total: null, state: "waiting", error: null });
  changed();
  const start = performance.now();
  const seconds = () => (performance.now() - start) / 1000;
  for await (const part of server.chat(body, { signal })) {
    if (part.text !== undefined) {
      run.first ??= seconds();
      run.answer += part.text;
      run.total = seconds();
      run.state = "streaming";
    }
    if (part.finish) run.finish = part.finish;
    if (part.usage) run.usage = part.usage;
    if (part.trace) run.trace = part.trace;
    changed();
  }
  run.total ??= seconds();
  end(run, "done", changed);
}

function end(run, state, changed) {
  run.state = state;
  changed();
}

function fail(run, error, changed) {
  run.error = { kind: error.kind, message: error.message, retryAfter: error.retryAfter };
  end(run, "failed", changed);
}
