// Numbers of a run, and how they are written. Every definition stands here.

/** Milliseconds below a second, else seconds. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 0.001) return `${(seconds * 1000).toFixed(2)} ms`;
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}

/** A share as a person writes it. */
export const share = (part, whole) => `${whole ? Math.round((100 * part) / whole) : 0} %`;

/**
 * Tokens a second of the decoding stage: tokens after the first, over the seconds from the first to the last, by the
 * server's clock. Null for an answer of one token, which has no such stage.
 */
export function decodeRate(run) {
  const tokens = (run.usage?.completion_tokens ?? 0) - 1;
  const seconds = run.trace?.times?.decode ?? 0;
  return tokens > 0 && seconds > 0 ? tokens / seconds : null;
}

/** Visual tokens of a run: {all, kept}; null where the reply had none. */
export function tokensOf(run) {
  const all = run.usage?.image_tokens ?? 0;
  return all ? { all, kept: run.usage.image_tokens_kept } : null;
}

/** The facts under an answer, as short phrases. */
export function facts(run) {
  const told = [];
  const tokens = tokensOf(run);
  if (tokens) told.push(`${tokens.kept} of ${tokens.all} visual tokens`);
  if (run.first !== null) told.push(`first token ${duration(run.first)}`);
  const rate = decodeRate(run);
  if (rate !== null) told.push(`${rate < 10 ? rate.toFixed(1) : Math.round(rate)} tokens/s`);
  if (run.usage) told.push(`${run.usage.completion_tokens} tokens in ${duration(run.total)}`);
  if (cachedOf(run)) told.push(`${cachedOf(run)} prompt tokens from cache`);
  return told;
}

export const STAGES = ["queue", "preprocess", "encode", "prefill", "decode"];

/** Two answers say the same if they differ in nothing but case, blanks and a full stop. */
export function sameAnswer(one, other) {
  const plain = (text) => text.trim().replace(/\s+/g, " ").replace(/\.$/, "").toLowerCase();
  return plain(one) === plain(other);
}

const cachedOf = (run) => run.usage?.prompt_tokens_details?.cached_tokens ?? 0;
const CACHE_BLOCK = 32; // prompt tokens; what both runs share of a template is less

/** One sentence on how the times of two runs compare, or why they do not. */
export function comparedTimes(reduced, full) {
  if (!reduced.first || !full.first) return "";
  if (Math.abs(cachedOf(reduced) - cachedOf(full)) > CACHE_BLOCK) {
    const [name, run] = cachedOf(full) > cachedOf(reduced) ? ["full", full] : ["reduced", reduced];
    return `Times do not compare: the ${name} run found ${cachedOf(run)} prompt tokens in a cache.`;
  }
  const ratio = full.first / reduced.first;
  if (ratio > 0.95 && ratio < 1.05) return "First token at the same time.";
  return ratio > 1
    ? `First token ${ratio.toFixed(1)} times sooner.`
    : `First token ${(1 / ratio).toFixed(1)} times later.`;
}
