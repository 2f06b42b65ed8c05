"""HoliTom before the language model (Shao et al. 2025, arXiv 2505.21334): the scenes that save most, then two ways.

A place stands still in a scene if all its cosines between neighbouring frames are above 0.8. Scenes are cut so that the
tokens saved, still places times (frames - 1) summed over scenes, are most (dynamic programming, O(T^2) over frames).
Still places become their means over time and are clustered by density peaks (7 neighbours): a cluster's token is 0.6
of its centre plus 0.4 of the mean of the others. Of the moving tokens of each frame the most salient stay as they are.
The part of the method inside the language model is not here.

Differences: the released code cuts both parts by one ratio, raised by what the still places saved and capped at 1, and
takes the count that comes; here all sets share an exact k (see `pools.py`), which is the same ratio. Ties go by order,
not by noise; density always looks at 7 neighbours (released: at most as many as clusters). Tokens stand in raster
order. Salience is the row that the tower gives (the authors': the column mean of SigLIP's last layer but one).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from foveate.errors import ReductionError
from foveate.reduce.base import ReducerConfig
from foveate.reduce.merging import rows_of
from foveate.reduce.needs import Needs
from foveate.reduce.tokens import Choice
from foveate.reduce.video.density import centre_scores, nearest_centre, squared_distances
from foveate.reduce.video.frames import Frames, VideoReducer, similarity_to
from foveate.reduce.video.pools import Pool, pool_of

NEIGHBOURS = 7


@dataclass(frozen=True, kw_only=True)
class HoliTomConfig(ReducerConfig):
    """Attributes:
    still: the cosine above which a place stands still (the authors take 0.65 at 10 % of tokens).
    centre: the centre's share of a cluster's token.
    """

    still: float = 0.8
    centre: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -1 <= self.still <= 1:
            raise ReductionError(f"still is {self.still}", why="it is a cosine, from -1 to 1")
        if not 0 <= self.centre <= 1:
            raise ReductionError(f"centre is {self.centre}", why="it is a share, from 0 to 1")


class HoliTom(VideoReducer):
    """Clusters of what stands still, the most salient of what moves."""

    name = "holitom"
    needs = Needs(salience="any", features=True)
    Config = HoliTomConfig
    config: HoliTomConfig

    def choose_frames(self, frames: Frames, k: int) -> Choice:
        salience = frames.needed_salience()
        similarity = similarity_to(frames.features[:, 1:], frames.features[:, :-1])
        # One wait for the device a batch: where scenes end decides the shape of all that follows.
        saved = savings(similarity > self.config.still).tolist()
        found = [
            self._choose_one(
                frames.features[index], salience[index], similarity[index], scenes_of(saved[index]), k
            )
            for index in range(frames.batch)
        ]
        kept, into, sources, weights = (torch.stack(column) for column in zip(*found, strict=True))
        return Choice(kept=kept, scores=salience.flatten(1), merge=rows_of((into, sources, weights)))

    def _choose_one(
        self,
        features: torch.Tensor,
        salience: torch.Tensor,
        similarity: torch.Tensor,
        lengths: list[int],
        k: int,
    ) -> tuple[torch.Tensor, ...]:
        """(kept [k], merge rows [T n] each) of one video [T, n, D]."""
        ends = torch.tensor(lengths).cumsum(0).tolist()
        none = salience.new_full((1, salience.shape[1]), float("inf"))
        still = torch.stack(
            [
                torch.cat([none, similarity[end - length : end - 1]]).amin(dim=0)
                for end, length in zip(ends, lengths, strict=True)
            ]
        )
        # A scene of one frame has no similarity, and nothing of it stands still.
        moves = (still <= self.config.still) | still.isinf()
        pool = pool_of(features, lengths, still.masked_fill(moves, float("-inf")), k)
        squared = squared_distances(pool.features[: len(lengths)])
        still_ones = pool.member[: len(lengths)]
        peaks = centre_scores(squared, still_ones, width=features.shape[2], neighbours=NEIGHBOURS)
        chosen = pool.best(torch.cat([peaks, salience]), k)
        into, weight = self._clusters(pool, squared, chosen[: len(lengths)])
        place = torch.arange(salience.shape[1], device=features.device)
        moving = torch.where(chosen[len(lengths) :], place, -1)
        kept = pool.tokens_of(chosen, k)
        into = torch.cat([into, moving])
        return kept, *pool.rows(into, torch.cat([weight, torch.ones_like(salience)]), kept[0])

    def _clusters(
        self, pool: Pool, squared: torch.Tensor, centre: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """([S, n] the centre that takes each still place in, [S, n] its share of that centre's token)."""
        into = nearest_centre(squared, centre).masked_fill(~pool.member[: len(squared)], -1)
        joins = (into >= 0) & ~centre
        others = torch.zeros(into.shape, device=into.device)
        others = others.scatter_add_(1, into.clamp(min=0), joins.float())
        own = torch.where(others > 0, self.config.centre, 1.0)
        joined = (1 - self.config.centre) / others.gather(1, into.clamp(min=0)).clamp(min=1)
        return into, torch.where(centre, own, joined)


def savings(alike: torch.Tensor) -> torch.Tensor:
    """[B, T, T] tokens saved by a scene from frame i to frame j > i, else 0.

    Args:
        alike: [B, T - 1, n] booleans: a place is as in the frame before.
    """
    batch, gaps, n = alike.shape
    run = torch.zeros(batch, n, dtype=torch.long, device=alike.device)
    saved = torch.zeros(batch, gaps + 1, gaps + 1, dtype=torch.long, device=alike.device)
    for last in range(1, gaps + 1):
        run = (run + 1) * alike[:, last - 1]  # frames before `last` that a place has been still for
        length = torch.arange(last, 0, -1, device=alike.device)
        saved[:, :last, last] = (run[:, None] >= length[:, None]).sum(dim=2) * length
    return saved


def scenes_of(saved: list[list[int]]) -> list[int]:
    """Lengths of the scenes that save most together; of equal cuts the one whose last scenes are shorter.

    Args:
        saved: [T][T] tokens saved by a scene from frame i to frame j.
    """
    count = len(saved)
    most, start = [0] * (count + 1), [0] * (count + 1)  # of the first j frames; where their last scene starts
    for end in range(1, count + 1):
        most[end], start[end] = max(
            ((most[first] + saved[first][end - 1], first) for first in range(end)), key=lambda pair: pair
        )
    lengths, end = [], count
    while end:
        lengths.append(end - start[end])
        end = start[end]
    return lengths[::-1]
