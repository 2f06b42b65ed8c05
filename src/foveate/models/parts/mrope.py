"""Multimodal rotary positions (M-RoPE, Wang et al. 2024, Qwen2-VL, arXiv 2409.12191).

Owns the triple (time, height, width) of every token of a prompt, computed once a request from token ids and
grids. transformers would compute the same and cache an offset on the module, which two requests would then
share.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Run:
    """Visual tokens that stand together in a prompt: steps in time order, each a raster of rows x cols tokens.

    Attributes:
        times: time of each step, counted from the first in positions; (0,) for a still image.
    """

    rows: int
    cols: int
    times: tuple[int, ...] = (0,)

    @property
    def tokens(self) -> int:
        """Of all steps."""
        return len(self.times) * self.rows * self.cols

    def positions(self) -> torch.Tensor:
        """[3, tokens] from 0."""
        steps = torch.arange(len(self.times)), torch.arange(self.rows), torch.arange(self.cols)
        grid = torch.stack(torch.meshgrid(*steps, indexing="ij")).flatten(1)
        grid[0] = torch.tensor(self.times)[grid[0]]
        return grid


def mrope_positions(
    token_ids: Sequence[int], visual_token_ids: Collection[int], runs: Sequence[Run]
) -> torch.Tensor:
    """[3, T] positions.

    Text advances all three together. A run that starts at position p takes time p + its step's, height p + row and
    width p + col, and text goes on at p + max(rows, cols): so does transformers since 5.3, also behind a video that
    lasts longer than that. (The paper goes on behind the largest position of all three, and so did transformers
    before; where no run's time exceeds its sides they agree.)

    Args:
        runs: in order of the prompt.
    """
    positions = torch.empty(3, len(token_ids), dtype=torch.long)
    index, position, waiting = 0, 0, iter(runs)
    while index < len(token_ids):
        if token_ids[index] not in visual_token_ids:
            positions[:, index] = position
            index, position = index + 1, position + 1
            continue
        run = next(waiting)
        stop = index + run.tokens
        positions[:, index:stop] = position + run.positions()
        index, position = stop, position + max(run.rows, run.cols)
    return positions
