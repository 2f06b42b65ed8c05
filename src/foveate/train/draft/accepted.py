"""How many of a head's guesses the target would have taken, counted on replies that are already there.

Owns the walk over a reply: a chain of the head's likeliest tokens from each token that a pass decides, as far as it
matches. A guess behind right guesses has read the reply's own tokens, so all drafts of all replies are two forwards'
work, and what is counted is what an engine with `SpeculationSettings(depth=…, adaptive=False)` and a chain counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from foveate.decode.heads.model import DraftHead
from foveate.train.draft.batch import collate
from foveate.train.draft.objective import Project, chosen_tokens
from foveate.train.draft.teaching import Lesson

_AT_ONCE = 32


@dataclass(kw_only=True)
class Accepted:
    """Counts over some replies; they add up.

    Attributes:
        tokens: that decoding passes gave; a reply's first comes with its prompt and is none of them.
        passes: of the target.
        tried, right: by place in the draft from the first: drafts that were right up to it, and those right there too.
    """

    tokens: int = 0
    passes: int = 0
    tried: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)

    @property
    def length(self) -> float:
        """Tokens a pass; 1 is plain decoding."""
        return self.tokens / self.passes if self.passes else 1.0

    @property
    def shares(self) -> list[float]:
        """Share of guesses that were right at each place, among drafts right up to it. With correct output and a
        first share near 0 a head is mis-wired."""
        return [right / tried if tried else 0.0 for right, tried in zip(self.right, self.tried, strict=True)]

    def __add__(self, other: Accepted) -> Accepted:
        width = max(len(self.tried), len(other.tried))

        def summed(mine: list[int], theirs: list[int]) -> list[int]:
            return [sum(one[place] for one in (mine, theirs) if place < len(one)) for place in range(width)]

        return Accepted(
            tokens=self.tokens + other.tokens,
            passes=self.passes + other.passes,
            tried=summed(self.tried, other.tried),
            right=summed(self.right, other.right),
        )


@torch.no_grad()
def chain_accepted(
    head: DraftHead, lessons: Sequence[Lesson], project: Project, *, depth: int = 5
) -> list[Accepted]:
    """The counts of each lesson's reply, for chains of `depth` guesses."""
    was_training = head.training
    head.eval()
    counts = []
    for first in range(0, len(lessons), _AT_ONCE):
        chunk = lessons[first : first + _AT_ONCE]
        batch = collate(chunk, head.config)
        guessed = head(batch.embeds, batch.features, batch.layouts, steps=depth)
        hits = torch.stack(
            [chosen_tokens(head, head.logits(states, project)) == batch.following for states in guessed]
        )
        counts += [walk(hits[:, row].tolist(), one) for row, one in enumerate(chunk)]
    head.train(was_training)
    return counts


def walk(hits: Sequence[Sequence[bool]], lesson: Lesson) -> Accepted:
    """One reply, pass by pass.

    Args:
        hits: [depth][T] whether the guess after so many guesses was right about the token behind each.
    """
    found = Accepted(tried=[0] * len(hits), right=[0] * len(hits))
    last = len(lesson.tokens) - 1
    newest = lesson.layout.prompt  # decided, and not yet run
    while newest < last:
        # As in the engine: a pass gives one token more than it accepts, so none is guessed that cannot follow.
        room = min(len(hits), last - newest)
        accepted = 0
        for step in range(room):
            found.tried[step] += 1
            if newest + step >= lesson.layout.length or not hits[step][newest + step]:
                break
            found.right[step] += 1
            accepted += 1
        given = min(accepted + 1, last - newest)
        found.tokens += given
        found.passes += 1
        newest += given
    return found
