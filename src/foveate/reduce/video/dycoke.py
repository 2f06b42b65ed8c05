"""DyCoke, temporal token merging (Tao et al. 2024, arXiv 2411.15024): drop what the group's earlier frames show.

Frames go in groups of four. Frame 0 of a group stays whole; frame 1 is compared with frame 0, frame 3 with frame 2,
and frame 2 with frame 0, place by place, by cosine of projected features; of each the least similar tokens stay.
(The authors call it merging; nothing is averaged.) The second half of the paper, which prunes the cache while
decoding, is no method of this stage.

The authors keep a share 1 - K of frames 1 to 3; here the budget gives it: what whole frames leave is shared evenly
by the other frames, and a budget below the whole frames is refused. A still is one whole frame, so it cannot be cut.

Differences from the released code, which passes over the last group of four when it treats frame 2, drops the last
frame of an odd number, and keeps frames in pairs only: here every frame follows the rule as the paper states it, and
the last group may be short.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from foveate.errors import ReductionError
from foveate.reduce.base import ReducerConfig
from foveate.reduce.needs import Needs
from foveate.reduce.scoring import top_k_within
from foveate.reduce.tiles import uniform_quotas
from foveate.reduce.tokens import Choice
from foveate.reduce.video.frames import Frames, VideoReducer, similarity_to


@dataclass(frozen=True, kw_only=True)
class DyCokeConfig(ReducerConfig):
    """group: frames of a group, an even number; more of them allow smaller budgets."""

    group: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group < 2 or self.group % 2:
            raise ReductionError(f"group is {self.group}", why="frames are compared in pairs: 2, 4, 6, ...")


class DyCoke(VideoReducer):
    """Whole frames at even distances, and of those between what differs."""

    name = "dycoke"
    needs = Needs(features=True)
    Config = DyCokeConfig
    config: DyCokeConfig

    def fewest(self, frames: int) -> int:
        return -(-frames // self.config.group)

    def choose_frames(self, frames: Frames, k: int) -> Choice:
        count, n = frames.count, frames.tokens
        index = torch.arange(count, device=frames.device)
        place = index % self.config.group
        compared = torch.where(place % 2 == 1, index - 1, index - place)
        scores = -similarity_to(frames.features, frames.features[:, compared]).flatten(1)
        whole = [frame % self.config.group == 0 for frame in range(count)]
        others = uniform_quotas((n,) * (count - sum(whole)), k - n * sum(whole))
        shares = iter(others)
        quotas = torch.tensor([n if stays else next(shares) for stays in whole], device=frames.device)
        kept = top_k_within(scores, frames.frame_of_token(), quotas.expand(frames.batch, -1), k)
        return Choice(kept=kept, scores=scores)
