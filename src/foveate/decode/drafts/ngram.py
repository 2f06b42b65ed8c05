"""Guesses copied from the text so far: where the last words stood before, what followed them may follow again.

Prompt lookup (Saxena 2023) over prompt and answer, by an index that grows with the tokens. Needs no training and
nearly no time; right where an answer quotes, lists or repeats.
"""

from __future__ import annotations

from collections.abc import Sequence

from foveate.decode.drafts.base import Draft, DraftRequest
from foveate.decode.tree import DraftTree


class _Index:
    """Where each run of `sizes` tokens was last followed by something.

    Attributes:
        tokens: read so far.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes
        self.tokens: list[int] = []
        self._followed: dict[tuple[int, ...], int] = {}

    def extend(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            place = len(self.tokens)
            for size in self._sizes:
                if place >= size:
                    self._followed[tuple(self.tokens[-size:])] = place
            self.tokens.append(token)

    def continuation(self) -> int | None:
        """The place after the latest earlier occurrence of the longest run that ends here."""
        for size in self._sizes:
            if len(self.tokens) >= size:
                place = self._followed.get(tuple(self.tokens[-size:]))
                if place is not None:
                    return place
        return None


class NgramDraft(Draft):
    """Copies what followed the last tokens when they stood before.

    Args:
        longest, shortest: lengths of the runs of tokens looked for, the longest first.
        never: ids that are never guessed: placeholders of pictures.
        depth: tokens to copy at most.
    """

    name = "ngram"

    def __init__(
        self, *, longest: int = 4, shortest: int = 2, never: Sequence[int] = (), depth: int = 8
    ) -> None:
        assert 1 <= shortest <= longest, (shortest, longest)
        self._sizes = tuple(range(longest, shortest - 1, -1))
        self._never = frozenset(never)
        self._known: dict[int, _Index] = {}
        self.depth = self.nodes = depth

    def propose(self, requests: Sequence[DraftRequest]) -> list[DraftTree]:
        return [DraftTree.chain(self._copy(request)) for request in requests]

    def _copy(self, request: DraftRequest) -> list[int]:
        index = self._known.setdefault(request.key, _Index(self._sizes))
        index.extend(request.read(len(index.tokens), request.length))
        place = index.continuation()
        drafts: list[int] = []
        while place is not None and len(drafts) < min(request.depth, request.nodes):
            # Past the end the copy goes on in itself: of "ab ab a", b ab ab may come.
            token = index.tokens[place] if place < request.length else drafts[place - request.length]
            if token in self._never:
                break
            drafts.append(token)
            place += 1
        return drafts

    def forget(self, key: int) -> None:
        self._known.pop(key, None)

    def describe(self) -> str:
        return f"n-grams: what followed the last {self._sizes[-1]} to {self._sizes[0]} tokens where they stood before"
