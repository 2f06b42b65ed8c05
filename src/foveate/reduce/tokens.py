"""What a method is shown and what it answers: batches of equal-size sets of tokens, and choices among them.

Owns the two records between the base class and the methods. Ids in here are local: 0..n-1 within one set.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from foveate.reduce.keep_map import Merge


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """B sets of n tokens each: whole images, or tiles of one size.

    Attributes:
        features: [B, n, D] in the language model's width.
        salience, shallow: [B, n] float32, or None where the method did not ask for them.
        keys: [B, n, d] float32, or None.
        rows, cols: of the raster the tokens fill, or 0 where they fill no single one (tiles put together).
        row, col: [n] place of each token in its tile.
        names: B texts that tell the pictures apart and are the same every time (content digests).
        questions: B texts; empty unless the method declares that it reads the question.
        frames: pictures in time order that the tokens are of, n / frames each; 1 for a still.
    """

    features: torch.Tensor
    salience: torch.Tensor | None
    shallow: torch.Tensor | None
    keys: torch.Tensor | None
    rows: int
    cols: int
    row: torch.Tensor
    col: torch.Tensor
    names: tuple[str, ...]
    questions: tuple[str, ...] = ()
    frames: int = 1

    @property
    def batch(self) -> int:
        """B."""
        return int(self.features.shape[0])

    @property
    def count(self) -> int:
        """n."""
        return int(self.features.shape[1])

    @property
    def device(self) -> torch.device:
        """Where everything lies."""
        return self.features.device

    def needed_salience(self) -> torch.Tensor:
        """[B, n]; the base class refuses before a method that declared it could miss it."""
        assert self.salience is not None, "the method reads salience and does not declare it"
        return self.salience

    def needed_keys(self) -> torch.Tensor:
        """[B, n, d], likewise."""
        assert self.keys is not None, "the method reads keys and does not declare it"
        return self.keys


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """What to keep of each set.

    Attributes:
        kept: [B, k] local ids, unique within a row, in any order.
        scores: [B, n] float32 or None: what tokens were ranked by.
        merge: [B, M] tensors in local ids, or None where kept tokens stay as they are.
    """

    kept: torch.Tensor
    scores: torch.Tensor | None = None
    merge: Merge | None = None
