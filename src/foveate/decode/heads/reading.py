"""One answer as a head has read it: what was observed and waits to be read, and how far its cache goes.

Owns the bookkeeping between tokens and rows. Nothing is run when tokens are observed: rows are read when a guess is
due. So a picture that came in chunks is whole, the question behind it is complete when a gate decides, and rows of
many answers are read together. Knows no tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from foveate.decode.drafts.base import Observation
    from foveate.decode.heads.cache import RowCache
    from foveate.models.records import Prompt


@dataclass(kw_only=True)
class Reading:
    """Tokens [first, seen) were observed; rows of tokens before `read` are in the cache.

    Attributes:
        first: where what was observed begins; what stood in the prefix cache before it is unknown.
        seen: where it ends.
        read: 0 until the first rows were read.
        embeds: of observed tokens of the prompt, until the first rows were read.
        features: of observed tokens from max(first, read - 1) on.
        glance: what ViSpec's adaptor says of the last picture.
        tokens: from the prompt's first to the last observed; what stood in the prefix cache is the prompt's.
        ends: of every row in the cache, the last token that it was made of.
    """

    prompt: Prompt
    cache: RowCache
    first: int
    seen: int
    read: int = 0
    embeds: list[torch.Tensor] = field(default_factory=list)
    features: list[torch.Tensor] = field(default_factory=list)
    glance: torch.Tensor | None = None
    tokens: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def goes_on_at(self, start: int) -> bool:
        """Whether an observation that begins at `start` can be joined to this one: behind it, or in place of a part
        of its answer. Else the reading must begin anew."""
        if start >= self.seen:
            return start == self.seen
        return start > self.first and start >= len(self.prompt.token_ids)

    def add(self, observed: Observation, features: torch.Tensor) -> None:
        """Takes in what the target computed; `goes_on_at` its start."""
        self._cut(observed.start)
        inside = len(self.prompt.token_ids) - observed.start
        if not self.read and inside > 0:
            self.embeds.append(observed.embeds[:inside])
        self.features.append(features)
        self.tokens += observed.tokens
        self.seen = observed.start + len(observed.tokens)

    def _cut(self, start: int) -> None:
        """Forgets what was observed from `start` on, and the rows made of it."""
        if start == self.seen:
            return
        del self.tokens[start:]
        begin = max(self.first, self.read - 1)
        if self.read > start + 1:  # row `start` reads the state before it, and stays
            self.cache.rows -= self.read - (start + 1)
            del self.ends[self.cache.rows :]
            self.read = start + 1
        kept = torch.cat(self.features)[: max(0, start - begin)] if self.features else None
        self.features = [] if kept is None or not len(kept) else [kept]
        self.seen = start

    @property
    def lookup_from(self) -> int:
        """The first token whose embedding is looked up: those before were observed, or have rows already."""
        return self.read or max(self.first, min(self.seen, len(self.prompt.token_ids)))

    def settle(self, read: int, ends: Sequence[int]) -> None:
        """All rows of tokens before `read` were read, those that end with `ends` now."""
        rest = joined(self.features)[read - 1 - max(self.first, self.read - 1) :]
        self.features = [rest] if len(rest) else []
        self.embeds.clear()
        self.read = read
        self.cache.rows += len(ends)
        self.ends += ends

    def copy(self) -> Reading:
        """For an answer that splits off."""
        return Reading(
            prompt=self.prompt,
            cache=self.cache.copy(),
            first=self.first,
            seen=self.seen,
            read=self.read,
            embeds=list(self.embeds),
            features=list(self.features),
            glance=self.glance,
            tokens=list(self.tokens),
            ends=list(self.ends),
        )


def joined(pieces: Sequence[torch.Tensor]) -> torch.Tensor:
    """[n, D] of pieces one behind the other; most often there is one."""
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))
