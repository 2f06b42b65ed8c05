"""The frames of a video as a method sees them, and the base of the methods that look at them together.

Owns the shape [B, T, n] and the refusals that hold for several methods. A video is an item whose grid has `frames`
pictures of equal layout: the contract of `base.py` plans, gathers, merges and checks it as it does a still. What a
still means to a method is a video of one frame. Knows no prompt (a family's own videos come so; `joining.py` makes
videos of images).
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, final

import torch

from foveate.errors import ReductionError
from foveate.models.records import VisualGrid
from foveate.reduce.base import Reducer, TileRule
from foveate.reduce.layout import layout_of
from foveate.reduce.scoring import unit
from foveate.reduce.tokens import Choice, Tokens

DECIMALS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """B videos of T frames of n tokens each.

    Attributes:
        features: [B, T, n, D] float32 in the language model's width.
        salience: [B, T, n] float32 (the CLS row, a pooling head's or the column mean, as the tower gives it), or
            None where the method did not ask for it.
    """

    features: torch.Tensor
    salience: torch.Tensor | None

    @classmethod
    def of(cls, tokens: Tokens) -> Frames:
        """Tokens stand frame by frame; a token's id is its frame times n plus its place."""
        shape = (tokens.batch, tokens.frames, tokens.count // tokens.frames)
        salience = None if tokens.salience is None else tokens.salience.reshape(shape)
        return cls(features=tokens.features.float().reshape(*shape, -1), salience=salience)

    @property
    def batch(self) -> int:
        """B."""
        return int(self.features.shape[0])

    @property
    def count(self) -> int:
        """T."""
        return int(self.features.shape[1])

    @property
    def tokens(self) -> int:
        """n, of one frame."""
        return int(self.features.shape[2])

    @property
    def device(self) -> torch.device:
        """Where everything lies."""
        return self.features.device

    def frame_of_token(self) -> torch.Tensor:
        """[T n] which frame each token is of."""
        return torch.arange(self.count, device=self.device).repeat_interleave(self.tokens)

    def needed_salience(self) -> torch.Tensor:
        """[B, T, n]; the base class refuses before a method that declared it could miss it."""
        assert self.salience is not None, "the method reads salience and does not declare it"
        return self.salience


class VideoReducer(Reducer):
    """Keeps k of the T n tokens of a video, all frames together.

    A subclass declares what a `Reducer` declares and defines `choose_frames`, and `fewest` where its rule keeps
    some frames whole.
    """

    default_tiles: ClassVar[TileRule] = "whole"
    tile_rules: ClassVar[tuple[TileRule, ...]] = (
        "whole",
    )  # the frames are the tiles, and share by the method
    stage: ClassVar[str] = "video"
    sealed: ClassVar[frozenset[str]] = frozenset(("choose", "refusal"))

    @abc.abstractmethod
    def choose_frames(self, frames: Frames, k: int) -> Choice:
        """Which k of the T n tokens stay; no loop over tokens."""

    def fewest(self, frames: int) -> int:
        """How many of `frames` frames the rule keeps whole, whatever the budget."""
        return 0

    @final
    def choose(self, tokens: Tokens, k: int) -> Choice:
        return self.choose_frames(Frames.of(tokens), k)

    @final
    def refusal(self, grid: VisualGrid, kept: int) -> ReductionError | None:
        """Why `kept` tokens cannot hold the frames that the rule keeps whole; None where they can."""
        whole = self.fewest(grid.frames)
        least = whole * (layout_of(grid).count // grid.frames)
        if kept >= least:
            return None
        if grid.frames == 1:
            return ReductionError(
                f"The method {self.name} cannot cut a single picture",
                why="it drops what an earlier frame shows too, and keeps the first frame whole",
                fix="Use vidcom2, or a method for stills such as fastervlm.",
            )
        return ReductionError(
            f"The method {self.name} cannot cut {grid.frames} frames to {kept} tokens",
            why=f"it keeps {whole} of them whole, which is {least} tokens",
            fix=f"Ask for {least} or more, or use vidcom2, fastvid, prunevid or holitom.",
        )


def steady(scores: torch.Tensor) -> torch.Tensor:
    """Scores of order one to five decimals, so that rounding errors do not decide between equal ones."""
    return scores.round(decimals=DECIMALS)


def similarity_to(features: torch.Tensor, earlier: torch.Tensor) -> torch.Tensor:
    """[..., T', n] cosines of tokens [..., T', n, D] with those at the same place of another frame."""
    return steady((unit(features) * unit(earlier)).sum(dim=-1))
