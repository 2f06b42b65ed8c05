"""What a draft is: asked for guesses, shown what the target made of what was decided.

Owns the contract and its records. A draft never decides anything: whatever it proposes, the answer is the target's.
Tokens, features and positions it is shown are the target's own, of decided tokens only; what it computed for guesses
it must not keep as if it had been shown.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch

from foveate.decode.tree import DraftTree
from foveate.errors import FoveateError

if TYPE_CHECKING:
    from foveate.models.records import Prompt


class DraftError(FoveateError):
    """A draft that cannot serve this target."""


@dataclass(frozen=True, kw_only=True)
class DraftRequest:
    """One answer whose next tokens are wanted.

    Attributes:
        key: the answer's name in all calls; never used again for another.
        prompt: what it answers, pictures included, as the target reads it.
        length: tokens decided, prompt and answer; the last one was not yet run by the target.
        read: token ids [start, stop) of these.
        depth: no path may be longer.
        nodes: no tree may have more.
    """

    key: int
    prompt: Prompt
    length: int
    read: Callable[[int, int], Sequence[int]]
    depth: int
    nodes: int


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What the target computed for decided tokens [start, start + n) of one answer.

    Where `start` lies before the end of what was observed, all from there on is replaced (the answer was computed
    anew); where it lies behind it, the tokens between were found in the prefix cache and nothing is known of them.

    Attributes:
        tokens: [n] ids.
        embeds: [n, D] what entered the language model: embeddings, or features of pictures.
        positions: [R, n]; R is 1, or 3 for M-RoPE.
        hidden: [n, D] after the last norm: what the output head takes.
        taps: [n, D] by layer, for the layers in `Draft.tap_layers`.
    """

    key: int
    prompt: Prompt
    start: int
    tokens: Sequence[int]
    embeds: torch.Tensor
    positions: torch.Tensor
    hidden: torch.Tensor
    taps: Mapping[int, torch.Tensor] = field(default_factory=dict)


class Draft(abc.ABC):
    """Proposes trees of tokens.

    Attributes:
        name: for statistics.
        observes: whether `observe` and `clone` are called; they cost the step a little.
        tap_layers: layers of the target whose outputs belong to an observation.
        depth, nodes: the largest trees that make sense for it.
    """

    name: ClassVar[str]
    observes: ClassVar[bool] = False
    tap_layers: tuple[int, ...] = ()
    depth: int = 5
    nodes: int = 5

    @abc.abstractmethod
    def propose(self, requests: Sequence[DraftRequest]) -> list[DraftTree]:
        """A tree for each, empty where it has no guess. It must not depend on anything but what was decided."""

    def observe(self, observations: Sequence[Observation]) -> None:
        """What the target computed in the last step, if `observes`."""
        return

    def clone(self, source: int, target: int) -> None:
        """Answer `target` splits off from `source`: everything observed so far holds for both."""
        return

    def forget(self, key: int) -> None:
        """The answer has ended, or gave up its place and will be computed anew; unknown keys are no error."""
        return

    def describe(self) -> str:
        """A few words for the start of a program."""
        return self.name
