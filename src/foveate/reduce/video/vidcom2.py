"""VidCom² (Liu et al. 2025, arXiv 2505.14454): distinctive frames get more tokens, and distinctive tokens stay.

Over the half of the channels that vary least in the video, tokens are normalised; a token is redundant by how near
it is to the centre of the video and to that of its frame, each a sum of five Gaussian kernels of variance 1/8 to 2.
A frame's distinctiveness is minus its tokens' mean nearness to the video's centre. Its quota is the mean share times
1 + p - mean(p), with p the softmax over frames at temperature 0.01, rounded, at least 1 and at most all; in a frame
the least redundant tokens stay.

Rounding leaves a few too many or too few. As vLLM does, the count is made exact over all frames by the same scores:
the most redundant of those chosen go, or the least redundant of the others come. Differences: budgets below one token
a frame are reconciled in the same way (vLLM raises them to one a frame), channels and scores of equal value go by
their number, and scores count to five decimals. A still is a video of one frame: both centres are the same.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from foveate.reduce.needs import Needs
from foveate.reduce.scoring import rank_within, top_k, unit
from foveate.reduce.tokens import Choice
from foveate.reduce.video.frames import Frames, VideoReducer, steady

VARIANCES = (0.125, 0.25, 0.5, 1.0, 2.0)
CHANNELS = 0.5
TEMPERATURE = 0.01
CHOSEN = 16.0  # more than redundancies differ by: two sums of five kernels, each at most 1


class VidCom2(VideoReducer):
    """Quotas by frame, the least redundant in each, then an exact count."""

    name = "vidcom2"
    needs = Needs(features=True)
    repacks: ClassVar[bool] = False

    def choose_frames(self, frames: Frames, k: int) -> Choice:
        vectors = unit(_quiet_channels(frames.features))
        to_video = _nearness(vectors, vectors.mean(dim=(1, 2), keepdim=True))
        to_frame = _nearness(vectors, vectors.mean(dim=2, keepdim=True))
        redundancy = steady(to_video + to_frame).flatten(1)
        # In double precision: the temperature makes a hundred of every difference.
        distinct = -steady(to_video.mean(dim=2)).double()
        share = (distinct / TEMPERATURE).softmax(dim=1)
        quotas = (k / frames.count * (1 + (share - share.mean(dim=1, keepdim=True)))).round()
        quotas = quotas.clamp(min=1, max=frames.tokens)
        frame = frames.frame_of_token()
        chosen = rank_within(-redundancy, frame, frames.count) < quotas[:, frame]
        return Choice(kept=top_k(CHOSEN * chosen - redundancy, k), scores=-redundancy)


def _quiet_channels(features: torch.Tensor) -> torch.Tensor:
    """[B, T, n, D'] the channels of least variance over all tokens of a video, each video its own."""
    width = max(1, int(CHANNELS * features.shape[-1]))
    order = features.flatten(1, 2).var(dim=1, unbiased=False).argsort(dim=1, stable=True)[:, :width]
    return features.gather(3, order[:, None, None].expand(-1, *features.shape[1:3], -1))


def _nearness(vectors: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """[B, T, n] sum of the kernels of the distance to a centre."""
    squared = (vectors - centre).square().sum(dim=-1)
    return sum(((-squared / (2 * variance)).exp() for variance in VARIANCES), torch.zeros_like(squared))
