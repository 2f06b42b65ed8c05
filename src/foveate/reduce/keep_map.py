"""What was kept of one image: the record every later room can show, store and check.

Owns its fields, invariants and JSON form. Knows no method.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch

from foveate.models.records import Region, VisualGrid


@dataclass(frozen=True, kw_only=True, eq=False)
class Merge:
    """Which tokens a kept token is made of, where it is not itself alone.

    Row i says that `weights[i]` times token `sources[i]` goes into the kept token `into[i]` (both token ids);
    a kept token that takes part in no row becomes zero, so methods write its own share as a row too.

    Attributes:
        into, sources: [M] int64; weights: [M] float32.
        channels: None, or [M, 2] int64 (modulus, remainder): the row goes into channels c with
            c mod modulus = remainder alone (space to depth that keeps the width).
    """

    into: torch.Tensor
    sources: torch.Tensor
    weights: torch.Tensor
    channels: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class KeepMap:
    """Attributes:
    grid: the image's layout before reduction.
    kept: [k] int64 token ids, ascending and unique.
    asked: the budget as it was asked for.
    reason: why k tokens.
    method: the reducer and its settings (its cache key).
    stage: where it acted: "input", "before the language model", "video" (before it too, over the frames of a
        video together) or "layer L of the language model".
    scores: [N] float32 or None: what tokens were ranked by; separators 0.
    merge: what kept tokens are made of; None where each is itself.
    """

    grid: VisualGrid
    kept: torch.Tensor
    asked: str
    reason: str
    method: str
    stage: str = "before the language model"
    scores: torch.Tensor | None = None
    merge: Merge | None = None

    @classmethod
    def full(cls, grid: VisualGrid, *, method: str, asked: str = "full", device: Any = "cpu") -> KeepMap:
        """Everything is kept."""
        return cls(
            grid=grid,
            kept=torch.arange(grid.tokens, device=device),
            asked=asked,
            reason="nothing is dropped",
            method=method,
        )

    @property
    def count(self) -> int:
        """Tokens kept."""
        return int(self.kept.shape[0])

    @property
    def total(self) -> int:
        """Tokens before reduction."""
        return self.grid.tokens

    @property
    def is_full(self) -> bool:
        """Whether every token is there as it came."""
        return self.count == self.total and self.merge is None

    def mask(self) -> torch.Tensor:
        """[N] booleans, True where a token is kept."""
        mask = torch.zeros(self.total, dtype=torch.bool, device=self.kept.device)
        mask[self.kept] = True
        return mask

    def to_dict(self) -> dict[str, Any]:
        """Plain data. Waits for the device; rows of weight 0 are left out."""
        merge = None
        if self.merge is not None:
            rows = self.merge.weights != 0
            channels = self.merge.channels
            merge = {
                "into": self.merge.into[rows].tolist(),
                "sources": self.merge.sources[rows].tolist(),
                "weights": self.merge.weights[rows].tolist(),
                "channels": None if channels is None else channels[rows].tolist(),
            }
        return {
            "grid": asdict(self.grid),
            "kept": self.kept.tolist(),
            "asked": self.asked,
            "reason": self.reason,
            "method": self.method,
            "stage": self.stage,
            "scores": None if self.scores is None else self.scores.tolist(),
            "merge": merge,
        }

    def to_json(self) -> str:
        """`to_dict` as one line."""
        return json.dumps(self.to_dict(), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> KeepMap:
        """The inverse of `to_json`."""
        data = json.loads(text)
        grid = data["grid"]
        regions = tuple(Region(**{**one, **_tuples(one)}) for one in grid["regions"])
        tiles = tuple((rows, cols) for rows, cols in grid["tiles"])
        merge, scores = data["merge"], data["scores"]
        return cls(
            **{name: data[name] for name in ("asked", "reason", "method", "stage")},
            grid=VisualGrid(**{**grid, **_tuples(grid), "tiles": tiles, "regions": regions}),
            kept=torch.tensor(data["kept"], dtype=torch.long),
            scores=None if scores is None else torch.tensor(scores, dtype=torch.float32),
            merge=None
            if merge is None
            else Merge(
                into=torch.tensor(merge["into"], dtype=torch.long),
                sources=torch.tensor(merge["sources"], dtype=torch.long),
                weights=torch.tensor(merge["weights"], dtype=torch.float32),
                channels=None if merge["channels"] is None else torch.tensor(merge["channels"]),
            ),
        )


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that JSON turned into lists, as the tuples they were."""
    return {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
