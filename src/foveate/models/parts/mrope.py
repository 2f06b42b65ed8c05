"""Multimodal rotary positions (M-RoPE, Wang et al. 2024, Qwen2-VL, arXiv 2409.12191).

Owns the triple (time, height, width) of every token of a prompt, computed once a request from token ids and
grids. transformers would compute the same and cache an offset on the module, which two requests would then
share.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def mrope_positions(
    token_ids: Sequence[int], image_token_id: int, grids: Sequence[tuple[int, int]]
) -> torch.Tensor:
    """[3, T] positions.

    Text advances all three together. An image of rows x cols tokens that starts at position p keeps time p,
    takes height p + row and width p + col, and text goes on at p + max(rows, cols).

    Args:
        grids: (rows, cols) in tokens of each image, in order; its image tokens stand together.
    """
    positions = torch.empty(3, len(token_ids), dtype=torch.long)
    index, position, images = 0, 0, iter(grids)
    while index < len(token_ids):
        if token_ids[index] != image_token_id:
            positions[:, index] = position
            index, position = index + 1, position + 1
            continue
        rows, cols = next(images)
        stop = index + rows * cols
        positions[0, index:stop] = position
        positions[1, index:stop] = position + torch.arange(rows).repeat_interleave(cols)
        positions[2, index:stop] = position + torch.arange(cols).repeat(rows)
        index, position = stop, position + max(rows, cols)
    return positions
