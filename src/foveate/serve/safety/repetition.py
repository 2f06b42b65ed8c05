"""Noticing output that goes round in circles, token by token.

Owns one detector. Knows token ids only.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


class PeriodDetector:
    """Finds the first moment at which the end of a sequence repeats one piece over and over.

    The end repeats with period p when, of its last `max(min_tokens, min_repeats * p)` tokens, each but the first p
    equals the one p before. Each period up to `max_period` has one number: where that last failed. No period can be
    reached before its number says, so tokens are put aside until the first of these moments and then compared all at
    once: a token costs next to nothing, however long the output, and nothing is found late or missed.

    Args:
        max_period: longest piece in tokens.
        min_repeats: how often it must stand there.
        min_tokens: and over how many tokens in all, so that a row of dashes is not enough.
    """

    def __init__(self, *, max_period: int = 256, min_repeats: int = 4, min_tokens: int = 128) -> None:
        assert max_period >= 1 and min_repeats >= 2 and min_tokens >= 2
        self._span = max_period
        self._needed = _needed(max_period, min_repeats, min_tokens)
        self._failed = np.zeros(max_period, np.int64)
        self._seen = np.full(max_period, -1, np.int64)  # the last tokens that were compared
        self._aside: list[int] = []
        self._count = 0  # of tokens compared
        self._left = int(self._needed.min())  # tokens until a period may be reached

    def feed(self, token: int) -> int | None:
        """Takes one token (0 or more); the shortest period with which the output now ends, or None."""
        self._aside.append(token)
        if len(self._aside) < self._left:
            return None
        self._compare()
        reached = self._failed + self._needed
        self._left = max(1, int(reached.min()) - self._count)
        found = np.flatnonzero(reached <= self._count)
        return self._span - int(found[-1]) if len(found) else None

    def _compare(self) -> None:
        """Notes for each period the last of the tokens put aside that differs from the one so far back."""
        tokens = np.concatenate([self._seen, np.asarray(self._aside, np.int64)])
        count = len(self._aside)
        # [tokens put aside, 1 + max_period]: each one behind those before it
        windows = np.lib.stride_tricks.sliding_window_view(tokens, self._span + 1)
        differs = windows[:, :-1] != windows[:, -1:]
        last = count - np.argmax(differs[::-1], axis=0)
        self._failed = np.where(differs.any(axis=0), self._count + last, self._failed)
        self._seen = tokens[-self._span :]
        self._count += count
        self._aside.clear()


@lru_cache(maxsize=8)
def _needed(max_period: int, min_repeats: int, min_tokens: int) -> NDArray[np.int64]:
    """Tokens after a failure until each period is reached; number j is that of the period max_period - j."""
    periods = np.arange(max_period, 0, -1)
    needed: NDArray[np.int64] = np.maximum(0, np.maximum(min_tokens, min_repeats * periods) - periods)
    needed.flags.writeable = False  # shared by all detectors alike
    return needed
