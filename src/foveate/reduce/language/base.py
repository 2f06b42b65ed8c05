"""The contract of methods that drop tokens inside the language model: where they look, cut, and how they count.

Owns their settings, and the layers and counts of a budget. `prefill.py` does the work that is the same for all.
Knows no prompt.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar, Literal, final

import torch

from foveate.errors import ReductionError
from foveate.reduce.base import Reducer, ReducerConfig, TileRule, require
from foveate.reduce.language.schedule import Counting, Cut, cut_layers, schedule
from foveate.reduce.language.view import View
from foveate.reduce.needs import Needs
from foveate.reduce.tokens import Choice, Tokens

STAGE = "language"


@dataclass(frozen=True, kw_only=True)
class LanguageConfig(ReducerConfig):
    """Settings of every method of this package.

    Attributes:
        cuts: first layers (0-based, ascending) that read fewer tokens; empty for the authors' at the model's depth.
        counting: what a budget counts: "average" over layers, or "final", left behind the last cut.
    """

    cuts: tuple[int, ...] = ()
    counting: Counting = "average"

    def __post_init__(self) -> None:
        super().__post_init__()
        require("counting", self.counting, ("average", "final"))
        if any(later <= earlier for earlier, later in zip(self.cuts, self.cuts[1:], strict=False)):
            raise ReductionError(f"cuts are {self.cuts}", why="they name layers in ascending order")


class LanguageReducer(Reducer):
    """Keeps fewer of each image's tokens from some layers of the language model on.

    A subclass declares `cuts`, `looks` and `repacks`, and defines `choose_inside`.
    """

    Config: ClassVar[type[ReducerConfig]] = LanguageConfig
    config: LanguageConfig
    stage = STAGE
    default_tiles: ClassVar[TileRule] = "whole"
    tile_rules: ClassVar[tuple[TileRule, ...]] = ("whole",)
    cut_shares: ClassVar[tuple[Fraction, ...]]  # the authors' cuts as shares of their model's layers
    # Whose queries and keys are read at a cut: of the layer before it as it ran, or of the layer at it, on its input.
    looks: ClassVar[Literal["before", "at"]] = "before"
    trims_cache: ClassVar[bool] = (
        False  # whether earlier layers forget what is gone at the end of the prefill
    )
    sealed: ClassVar[frozenset[str]] = frozenset(("choose", "cuts_for"))

    @abc.abstractmethod
    def choose_inside(self, view: View, k: int) -> Choice:
        """Which k of the image's m tokens stay, 1 <= k < m, as rows [1, k] of local ids 0..m-1."""

    def prepare(
        self, image: torch.Tensor, text: torch.Tensor, salience: torch.Tensor | None
    ) -> torch.Tensor | None:
        """What the method notes of an image before the first layer, and finds in `View.prepared` at every cut.

        Args:
            image: [N, D] embeddings of the image's tokens; text: [t, D] of the text that `View.text` names.
            salience: [N], where the method declares that it reads it.
        """
        return None

    @property
    def required(self) -> Needs:
        """As declared, and what every such method needs: a plain decoder, and caches that tell questions apart."""
        needs = super().required
        return replace(needs, question=True, language=needs.language or "layers")

    @final
    def choose(self, tokens: Tokens, k: int) -> Choice:
        raise ReductionError(
            f"The method {self.name} cannot reduce features",
            why="it decides between the layers of the language model",
            fix="Use foveate.reduce.reduce_prompt and generate_reduced.",
        )

    @final
    def cuts_for(self, present: int, droppable: int, k: int, layers: int) -> tuple[Cut, ...]:
        """Layers and counts for one image; see `schedule`."""
        places = cut_layers(self.cut_shares, self.config.cuts, layers, self.name)
        return schedule(
            present,
            droppable,
            k,
            layers=layers,
            cuts=places,
            counting=self.config.counting,
            name=self.name,
        )
