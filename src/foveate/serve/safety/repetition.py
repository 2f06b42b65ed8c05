"""Noticing output that goes round in circles, token by token.

Owns one detector. Knows token ids only.
"""

from __future__ import annotations

import numpy as np


class PeriodDetector:
    """Finds the first moment at which the end of a sequence repeats one piece over and over.

    The end repeats with period p when, of its last `max(min_tokens, min_repeats * p)` tokens, each but the first p
    equals the one p before. Each period up to `max_period` has one number: where that last failed. A token updates all
    of them in two vector operations, and no period can be reached before its number says, so they are looked at once in
    a while: the cost of a token does not grow with the output, and nothing is found late or missed.

    Args:
        max_period: longest piece in tokens.
        min_repeats: how often it must stand there.
        min_tokens: and over how many tokens in all, so that a row of dashes is not enough.
    """

    def __init__(self, *, max_period: int = 256, min_repeats: int = 4, min_tokens: int = 128) -> None:
        assert max_period >= 1 and min_repeats >= 2 and min_tokens >= 2
        self._span = max_period
        periods = np.arange(max_period, 0, -1)  # index j compares with the token max_period - j back
        self._needed = np.maximum(0, np.maximum(min_tokens, min_repeats * periods) - periods)
        self._failed = np.zeros(max_period, np.int64)
        self._differs = np.empty(max_period, bool)
        # The last max_period tokens stand side by side before `_end`; moved to the front when the room is used up.
        self._tokens = np.full(8 * max_period, -1, np.int64)
        self._end = max_period
        self._count = 0
        self._next_look = int(self._needed.min())

    def feed(self, token: int) -> int | None:
        """Takes one token (0 or more); the shortest period with which the output now ends, or None."""
        if self._end == len(self._tokens):
            self._tokens[: self._span] = self._tokens[-self._span :]
            self._end = self._span
        self._count += 1
        np.not_equal(self._tokens[self._end - self._span : self._end], token, out=self._differs)
        np.copyto(self._failed, self._count, where=self._differs)
        self._tokens[self._end] = token
        self._end += 1
        if self._count < self._next_look:
            return None
        reached = self._failed + self._needed
        self._next_look = int(reached.min())
        if self._count < self._next_look:
            return None
        return self._span - int(np.flatnonzero(reached <= self._count)[-1])
