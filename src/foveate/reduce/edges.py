"""How rich in text a picture looks, from its edges alone: what `auto` asks before anything is encoded.

Owns one number. Print has strong horizontal changes of brightness almost everywhere; photographs and drawings have
them along outlines only. A heuristic, and `Plan.reason` says so whenever it changes a budget.
"""

from __future__ import annotations

import torch

# Normalised pixels have a standard deviation near 1 whatever the processor: half of it is a strong edge.
STRONG = 0.5


def edge_share(pixels: torch.Tensor) -> float:
    """The share of pixels [tiles, 3, H, W] whose brightness differs from the next in the row by STRONG or more."""
    brightness = pixels.float().mean(dim=1)
    return float((brightness.diff(dim=2).abs() >= STRONG).float().mean())
