"""PruneVid before the language model (Huang et al. 2024, arXiv 2412.16117): scenes, still places once, then clusters.

The frames' mean features are clustered by density peaks (7 neighbours) into floor(T / 4) scenes, one at least, made
contiguous. A place of a scene stands still if the mean cosine between its frames is above 0.8; it becomes its mean over
time. The still tokens of each scene and the moving ones of each frame are clustered by density peaks again, and a
cluster becomes its mean, at the place of its centre. The part of the method inside the language model is not here.

Differences: the released code halves every set of more than 14 tokens and takes the count that comes; here sets share
an exact k (see `pools.py`), also small ones, and a set that gets no share is dropped. A cluster of frames keeps its
longest run, also a run of one frame, and the frames between join the longer neighbour, so that the number of scenes is
the one asked for (released: clusters whose runs are single frames vanish, and equal runs of one cluster all stay).
Ties go by order, not by noise. Means stand in raster order, not still ones before moving ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import torch

from foveate.errors import ReductionError
from foveate.reduce.base import ReducerConfig
from foveate.reduce.merging import rows_of
from foveate.reduce.needs import Needs
from foveate.reduce.scoring import unit
from foveate.reduce.tokens import Choice
from foveate.reduce.video.density import centre_scores, nearest_centre, squared_distances
from foveate.reduce.video.frames import Frames, VideoReducer
from foveate.reduce.video.pools import pool_of

NEIGHBOURS = 7


@dataclass(frozen=True, kw_only=True)
class PruneVidConfig(ReducerConfig):
    """scenes: scenes a frame; still: the mean cosine above which a place stands still."""

    scenes: float = 0.25
    still: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.scenes <= 1:
            raise ReductionError(f"scenes is {self.scenes}", why="it is a share of the frames, from 0 to 1")
        if not -1 <= self.still <= 1:
            raise ReductionError(f"still is {self.still}", why="it is a cosine, from -1 to 1")


class PruneVid(VideoReducer):
    """Means over time, then means over clusters."""

    name = "prunevid"
    needs = Needs(features=True)
    Config = PruneVidConfig
    config: PruneVidConfig

    def choose_frames(self, frames: Frames, k: int) -> Choice:
        scenes = max(1, int(self.config.scenes * frames.count))
        means = frames.features.mean(dim=2)
        everyone = torch.ones(means.shape[:2], dtype=torch.bool, device=frames.device)
        squared = squared_distances(means)
        scores = centre_scores(squared, everyone, width=means.shape[2], neighbours=NEIGHBOURS)
        best = scores.argsort(dim=1, descending=True, stable=True)[:, :scenes]
        labels = nearest_centre(squared, torch.zeros_like(everyone).scatter(1, best, True))
        # One wait for the device a batch: where scenes end decides the shape of all that follows.
        found = [
            self._choose_one(features, contiguous(row), k)
            for features, row in zip(frames.features, labels.tolist(), strict=True)
        ]
        kept, into, sources, weights = (torch.stack(column) for column in zip(*found, strict=True))
        return Choice(kept=kept, merge=rows_of((into, sources, weights)))

    def _choose_one(self, features: torch.Tensor, lengths: list[int], k: int) -> tuple[torch.Tensor, ...]:
        """(kept [k], merge rows [T n] each) of one video [T, n, D]."""
        still = torch.stack([_stillness(part) for part in features.split(lengths)])
        pool = pool_of(features, lengths, still.masked_fill(still <= self.config.still, float("-inf")), k)
        squared = squared_distances(pool.features)
        peaks = centre_scores(squared, pool.member, width=features.shape[2], neighbours=NEIGHBOURS)
        centre = pool.best(peaks, k)
        into = nearest_centre(squared, centre).masked_fill(~pool.member, -1)
        size = torch.zeros(into.shape, device=into.device)
        size = size.scatter_add_(1, into.clamp(min=0), (into >= 0).float()).clamp(min=1)
        kept = pool.tokens_of(centre, k)
        return kept, *pool.rows(into, 1.0 / size.gather(1, into.clamp(min=0)), kept[0])


def _stillness(scene: torch.Tensor) -> torch.Tensor:
    """[n] mean cosine between every two frames of [L, n, D]; -inf where there is one frame only."""
    length = len(scene)
    if length == 1:
        return scene.new_full(scene.shape[1:2], float("-inf"))
    directions = unit(scene)
    # The square of a sum holds every pair twice, and each frame with itself.
    pairs = directions.sum(dim=0).square().sum(dim=1) - directions.square().sum(dim=(0, 2))
    return pairs / (length * (length - 1))


def contiguous(labels: list[int]) -> list[int]:
    """Lengths of the scenes that clusters of frames become.

    Of each cluster its longest run stays, the first of equals; frames between join the longer of the runs beside
    them, the earlier of equals.
    """
    runs = [(label, len(list(group))) for label, group in groupby(labels)]
    longest = {
        label: max(
            (index for index, run in enumerate(runs) if run[0] == label), key=lambda i: (runs[i][1], -i)
        )
        for label in set(labels)
    }
    kept = sorted(longest.values())
    lengths = [runs[index][1] for index in kept]
    for index, (_, length) in enumerate(runs):
        if index not in kept:
            before = [place for place, other in enumerate(kept) if other < index][-1:]
            after = [place for place, other in enumerate(kept) if other > index][:1]
            home = max(before + after, key=lambda place: (runs[kept[place]][1], -place))
            lengths[home] += length
    return lengths
