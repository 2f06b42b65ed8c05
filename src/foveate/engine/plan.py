"""What one step will do, said before it is done: the scheduler's unit of work.

Owns the record only. Every kind of decoding states its work in these terms: tokens to run, memory they take,
rows of logits wanted, phase.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foveate.decode.tree import DraftTree
    from foveate.engine.sequence import Sequence


class Phase(enum.StrEnum):
    """What a piece of work is for."""

    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, kw_only=True)
class Work:
    """Tokens [start, stop) of one sequence, and the rows of them whose logits are wanted.

    Attributes:
        logit_rows: token indices within the sequence; empty while a prompt is not complete. Node i of the draft has
            index `stop` + i.
        state_bytes: memory the new tokens take in the state store.
        draft: tokens that run after `stop` and are not decided; None where nothing is tried.
    """

    sequence: Sequence
    start: int
    stop: int
    phase: Phase
    logit_rows: tuple[int, ...]
    state_bytes: int = 0
    draft: DraftTree | None = None

    @property
    def tokens(self) -> int:
        """Tokens to run, drafts included."""
        return self.stop - self.start + (0 if self.draft is None else len(self.draft))


@dataclass(frozen=True, kw_only=True)
class Encode:
    """One image to encode before the step's forward: `media_index` of the request of `sequence`."""

    sequence: Sequence
    media_index: int
    key: str


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """One step: images to encode, then all work in one packed batch."""

    works: tuple[Work, ...]
    encodes: tuple[Encode, ...] = ()
    preempted: tuple[Sequence, ...] = ()
    admitted: tuple[Sequence, ...] = ()

    @property
    def tokens(self) -> int:
        """Length T of the packed batch."""
        return sum(work.tokens for work in self.works)

    @property
    def logit_rows(self) -> int:
        """Rows the output head will project."""
        return sum(len(work.logit_rows) for work in self.works)

    @property
    def state_bytes(self) -> int:
        """Memory the step's tokens take."""
        return sum(work.state_bytes for work in self.works)

    @property
    def phase(self) -> str:
        """ "prefill", "decode", "mixed" or "idle"."""
        phases = {work.phase for work in self.works}
        return "idle" if not phases else "mixed" if len(phases) > 1 else str(next(iter(phases)))
