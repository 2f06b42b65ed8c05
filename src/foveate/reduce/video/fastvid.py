"""FastVID (Shen et al. 2025, arXiv 2503.11187): scenes, the most salient of each frame, density peaks for the rest.

A video is cut where neighbouring frames are least alike (the 7 lowest cosines) and wherever their cosine is below 0.9.
Every frame keeps an even share of the budget; 0.6 of it are its most salient tokens. The other 0.4 of all frames of a
scene go to its anchor frames, every fourth from the scene's last: there, of the tokens not yet kept, density peaks (4
neighbours) become anchors. Every other token of the scene goes to its most similar anchor; an anchor with m of them
becomes w of itself plus 1 - w of their mean, w = max(1 / (m + 1), 0.6).

Differences: frames are compared by the mean of their projected features and tokens by the tower's salience row; the
authors run SigLIP's pooling head for both. A token joins one anchor of its scene (released: the best one of every
anchor frame), and an anchor is not counted among its own tokens. The shares sum to exactly k: floors, one more for the
first frames, and what anchor frames have no room for (budgets near all tokens) goes to salient tokens of the other
frames. A scene whose share for anchors rounds to none drops the rest. Ties go by order, not by noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from foveate.errors import ReductionError
from foveate.reduce.base import ReducerConfig
from foveate.reduce.merging import rows_of
from foveate.reduce.needs import Needs
from foveate.reduce.scoring import ids_of, unit
from foveate.reduce.tiles import uniform_quotas
from foveate.reduce.tokens import Choice
from foveate.reduce.video.density import centre_scores, squared_distances
from foveate.reduce.video.frames import Frames, VideoReducer, steady

NEIGHBOURS = 4


@dataclass(frozen=True, kw_only=True)
class FastVIDConfig(ReducerConfig):
    """Attributes:
    scenes: that every video is cut into, at least (fewer in shorter ones).
    alike: the cosine of neighbouring frames below which a scene ends.
    merged: share of the budget that goes to anchors.
    step: an anchor frame every so many.
    own: the least share of an anchor in what it becomes.
    """

    scenes: int = 8
    alike: float = 0.9
    merged: float = 0.4
    step: int = 4
    own: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("scenes", "step"):
            if getattr(self, name) < 1:
                raise ReductionError(
                    f"{name} is {getattr(self, name)}", why="it counts frames or scenes, from 1"
                )
        for name in ("merged", "own"):
            if not 0 <= getattr(self, name) <= 1:
                raise ReductionError(f"{name} is {getattr(self, name)}", why="it is a share, from 0 to 1")
        if not -1 <= self.alike <= 1:
            raise ReductionError(f"alike is {self.alike}", why="it is a cosine, from -1 to 1")


class FastVID(VideoReducer):
    """Salient tokens, and anchors that hold the rest of their scene."""

    name = "fastvid"
    needs = Needs(salience="any", features=True)
    Config = FastVIDConfig
    config: FastVIDConfig
    repacks: ClassVar[bool] = False

    def choose_frames(self, frames: Frames, k: int) -> Choice:
        salience = frames.needed_salience()
        directions = unit(frames.features.mean(dim=2))
        alike = steady((directions[:, 1:] * directions[:, :-1]).sum(dim=2))
        # One wait for the device a batch: where scenes end decides the shape of all that follows.
        found = [
            self._choose_one(features, row, self._scenes(similarity), k)
            for features, row, similarity in zip(frames.features, salience, alike.tolist(), strict=True)
        ]
        kept, into, sources, weights = (torch.stack(column) for column in zip(*found, strict=True))
        return Choice(kept=kept, scores=salience.flatten(1), merge=rows_of((into, sources, weights)))

    def _scenes(self, similarity: Sequence[float]) -> list[int]:
        """Lengths of the scenes of a video from its T - 1 cosines of neighbouring frames."""
        gaps = sorted(range(len(similarity)), key=lambda gap: similarity[gap])
        cuts = {
            *gaps[: self.config.scenes - 1],
            *(gap for gap in gaps if similarity[gap] < self.config.alike),
        }
        ends = [*sorted(gap + 1 for gap in cuts), len(similarity) + 1]
        return [end - start for start, end in zip([0, *ends], ends, strict=False)]

    def _choose_one(
        self, features: torch.Tensor, salience: torch.Tensor, lengths: list[int], k: int
    ) -> tuple[torch.Tensor, ...]:
        """(kept [k], merge rows [T n] each) of one video [T, n, D]."""
        count, n, width = features.shape
        shares = uniform_quotas((n,) * count, k)
        salient, anchors = share_by_scene(shares, lengths, n, self.config.merged, self.config.step)
        chosen = _rank(salience) < torch.tensor(salient, device=features.device)[:, None]
        peaks = centre_scores(squared_distances(features), ~chosen, width=width, neighbours=NEIGHBOURS)
        anchor = (_rank(peaks) < torch.tensor(anchors, device=features.device)[:, None]) & ~chosen
        kept = ids_of((chosen | anchor).flatten()[None], k)[0]
        parts, start = [], 0
        for length in lengths:
            frames = slice(start, start + length)
            into, weight = self._merged(
                features[frames], chosen[frames], anchor[frames], sum(anchors[frames])
            )
            parts.append((torch.where(into < 0, kept[0], into + start * n), weight))
            start += length
        into, weight = (torch.cat(column) for column in zip(*parts, strict=True))
        return kept, into, torch.arange(count * n, device=features.device), weight

    def _merged(
        self, features: torch.Tensor, salient: torch.Tensor, anchor: torch.Tensor, anchors: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """([L n] the token of a scene that takes each of its tokens in, -1 for none; [L n] its share there)."""
        index = torch.arange(salient.numel(), device=features.device)
        vectors, stays, centre = features.flatten(0, 1), salient.flatten(), anchor.flatten()
        if not anchors:
            return torch.where(stays, index, -1), stays.float()
        ids = ids_of(centre[None], anchors)[0]
        best = ids[steady(unit(vectors) @ unit(vectors[ids]).T).argmax(dim=1)]
        joins = ~stays & ~centre
        into = torch.where(joins, best, index)
        members = torch.zeros(len(index), device=features.device).index_add_(0, into, joins.float())
        own = torch.where(members > 0, (1 / (members + 1)).clamp(min=self.config.own), 1.0)
        return into, torch.where(joins, (1 - own[into]) / members[into].clamp(min=1), own)


def _rank(scores: torch.Tensor) -> torch.Tensor:
    """[T, n] the place of each score in its frame, 0 for the largest, of equals the first."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1)


def share_by_scene(
    shares: Sequence[int], lengths: Sequence[int], n: int, merged: float, step: int
) -> tuple[list[int], list[int]]:
    """(salient tokens, anchors) of every frame; together they are `shares`, scene by scene.

    Args:
        shares: of the budget, of each frame.
        n: tokens of a frame.
        merged: share that goes to anchors, rounded down in each frame.
        step: an anchor frame every so many, from the scene's last frame back.
    """
    salient, anchors = [], []
    start = 0
    for length in lengths:
        own = list(shares[start : start + length])
        pooled = sum(math.floor(merged * share) for share in own)
        stays = [share - math.floor(merged * share) for share in own]
        is_anchor = [(length - 1 - frame) % step == 0 for frame in range(length)]
        holds = fill(pooled, [(n - kept) * here for kept, here in zip(stays, is_anchor, strict=True)])
        more = fill(
            pooled - sum(holds),
            [(n - kept) * (not here) for kept, here in zip(stays, is_anchor, strict=True)],
        )
        salient += [kept + extra for kept, extra in zip(stays, more, strict=True)]
        anchors += holds
        start += length
    return salient, anchors


def fill(amount: int, rooms: Sequence[int]) -> list[int]:
    """`amount` shared evenly by those with room, the first of them one more; at most what all rooms hold."""
    shares = [0] * len(rooms)
    amount = min(amount, sum(rooms))
    while amount:
        hungry = [index for index, room in enumerate(rooms) if shares[index] < room]
        each, rest = divmod(amount, len(hungry))
        for place, index in enumerate(hungry):
            given = min(each + (place < rest), rooms[index] - shares[index])
            shares[index] += given
            amount -= given
    return shares
