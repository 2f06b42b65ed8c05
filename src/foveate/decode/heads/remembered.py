"""Rows of earlier answers for prompts that begin alike: the engine finds their tokens in its prefix cache and computes
them no more, so that a head would never see them.

Owns which readings are kept and which of them fits. A row that was made for another question (by a compressor's gate)
fits as well as any: a head only guesses. Knows no head's parameters.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from foveate.decode.heads.reading import Reading

if TYPE_CHECKING:
    from foveate.models.records import Prompt


class Remembered:
    """Readings of answers that ended, the latest ones, in so many bytes.

    Args:
        most: bytes of keys and values; 0 keeps none.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._kept: OrderedDict[int, Reading] = OrderedDict()

    def keep(self, key: int, reading: Reading) -> None:
        """Of an answer that ended or gave up its place."""
        reading.embeds.clear()
        reading.features.clear()
        before = self._kept.pop(key, None)  # it gave up its place, came back, and ended
        self._bytes -= 0 if before is None else before.cache.bytes
        if not reading.read or reading.cache.bytes > self._most:
            return
        self._kept[key] = reading
        self._bytes += reading.cache.bytes
        while self._bytes > self._most:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.cache.bytes

    def begin(self, prompt: Prompt, start: int, running: Iterable[Reading]) -> Reading | None:
        """A reading of this prompt from token `start` on, behind the rows that another has of those before; None where
        none has.

        Args:
            running: readings that may have them too.
        """
        if not self._most or not 0 < start <= len(prompt.token_ids):
            return None
        wanted = prompt.token_ids[:start]
        for other in (*reversed(self._kept.values()), *running):
            alike = other.read >= start and other.tokens[:start] == wanted
            if alike and _pictures(other.prompt, start) == _pictures(prompt, start):
                # A glance is of the last picture read: one behind `start` says nothing of this prompt.
                if other.glance is not None and any(first >= start for first, _ in other.prompt.spans):
                    continue
                rows = bisect_left(other.ends, start)
                return Reading(
                    prompt=prompt,
                    cache=other.cache.copy(rows),
                    first=start,
                    seen=start,
                    glance=other.glance,
                    tokens=list(wanted),
                    ends=other.ends[:rows],
                )
        return None


def _pictures(prompt: Prompt, start: int) -> list[str]:
    """Digests of those that begin before token `start`."""
    return [
        item.digest for item, (first, _) in zip(prompt.media, prompt.spans, strict=False) if first < start
    ]
