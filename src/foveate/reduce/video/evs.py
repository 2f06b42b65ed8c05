"""EVS, efficient video sampling (Bagrov et al. 2025, arXiv 2510.14624): keep what changed since the frame before.

A token's change is 1 minus the cosine with the token at the same place of the previous frame, by projected features.
The first frame stays whole; of all other tokens the ones of largest change stay, wherever they are.

Differences: the released code raises a budget below one frame to one frame in silence; here such a budget is refused
when it is planned, because an exact count is promised, and with it any cut of a still. Changes count to five
decimals: in a scene that stands still rounding errors would choose otherwise. Serving code decides at run time where
M-RoPE positions go on behind the video (vLLM: behind the grid's width); here text behind it does not move.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from foveate.reduce.needs import Needs
from foveate.reduce.scoring import top_k
from foveate.reduce.tokens import Choice
from foveate.reduce.video.frames import Frames, VideoReducer, similarity_to

FIRST_FRAME = 3.0  # more than any change: 1 - cosine is at most 2


class EVS(VideoReducer):
    """The first frame and the largest changes."""

    name = "evs"
    needs = Needs(features=True)
    repacks: ClassVar[bool] = False

    def fewest(self, frames: int) -> int:
        return 1

    def choose_frames(self, frames: Frames, k: int) -> Choice:
        first = torch.full((frames.batch, 1, frames.tokens), FIRST_FRAME, device=frames.device)
        change = 1.0 - similarity_to(frames.features[:, 1:], frames.features[:, :-1])
        scores = torch.cat([first, change], dim=1).flatten(1)
        return Choice(kept=top_k(scores, k), scores=scores)
