"""From tokens to the text a caller sees: whole characters, cut before a stop string.

Owns the text that is held back because it may turn out to begin a stop string. Knows no sampling; whole
characters are `models.generation.IncrementalDetokenizer`'s work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foveate.models.generation import IncrementalDetokenizer


class TextStream:
    """One answer's text as its tokens come."""

    def __init__(self, tokenizer: Any, stops: Sequence[str] = (), *, include_stop: bool = False) -> None:
        self._detokenizer = IncrementalDetokenizer(tokenizer)
        self._stops = tuple(stops)
        self._include = include_stop
        self._held = ""

    def push(self, token_id: int, *, may_stop: bool = True) -> tuple[str, bool]:
        """(text to show now, whether a stop string came). With `may_stop` False stop strings are text."""
        self._held += self._detokenizer.push(token_id)
        return self._release(may_stop)

    def flush(self, *, may_stop: bool = True) -> tuple[str, bool]:
        """The rest, at the end of the answer; a stop string may still show in it."""
        self._held += self._detokenizer.flush()
        text, stopped = self._release(may_stop)
        rest, self._held = ("" if stopped else self._held), ""
        return text + rest, stopped

    def _release(self, may_stop: bool) -> tuple[str, bool]:
        if not may_stop:
            text, self._held = self._held, ""
            return text, False
        found = [(place, stop) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            place, stop = min(found, key=lambda pair: (pair[0], -len(pair[1])))
            text = self._held[: place + (len(stop) if self._include else 0)]
            self._held = ""
            return text, True
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text, False

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that begins `stop`."""
        for length in range(min(len(stop) - 1, len(self._held)), 0, -1):
            if self._held.endswith(stop[:length]):
                return length
        return 0
