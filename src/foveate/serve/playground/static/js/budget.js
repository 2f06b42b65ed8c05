// The one dial: positions of the slider, and the words that the server, the link and the reader see.

export const FULL = 100; // per cent; the slider's right end
export const LEAST = 5;

/** What the server is asked for at a position. */
export const budgetAt = (position) => (position >= FULL ? "full" : `${position}%`);

/** The position of a budget word, to the nearest step; null for words that are no share (auto, 64). */
export function positionOf(budget) {
  if (budget === "full") return FULL;
  const share = /^(\d+(?:\.\d+)?)%$/.exec(budget);
  if (!share) return null;
  return Math.min(FULL, Math.max(LEAST, Math.round(Number(share[1]) / LEAST) * LEAST));
}

/** For reading. */
export const budgetLabel = (budget) => (budget === "full" ? "full" : budget.replace("%", " %"));

/** For people who listen. */
export const budgetSpoken = (budget) =>
  budget === "full" ? "full: all visual tokens" : `${budget.replace("%", " per cent")} of the visual tokens`;
