"""The patch rows of Qwen's processors and the pictures they were cut from.

Owns the order of values in a row: blocks of merge x merge patches together; in a patch channels, frames, rows, columns.
"""

from __future__ import annotations

import torch


def picture_of(patches: torch.Tensor, rows: int, cols: int, *, merge: int, patch: int) -> torch.Tensor:
    """[rows * cols * merge^2, c] -> [3, H, W], the first of the equal frames of a still image.

    rows, cols: in blocks of merge x merge patches.
    """
    blocks = patches.reshape(rows, cols, merge, merge, 3, -1, patch, patch)[:, :, :, :, :, 0]
    return blocks.permute(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * merge * patch, cols * merge * patch)


def patches_of(picture: torch.Tensor, *, merge: int, patch: int, frames: int) -> torch.Tensor:
    """[3, H, W] -> [rows * cols * merge^2, 3 * frames * patch^2]; the inverse of `picture_of`."""
    _, height, width = picture.shape
    rows, cols = height // (merge * patch), width // (merge * patch)
    blocks = picture.reshape(3, rows, merge, patch, cols, merge, patch).permute(1, 4, 2, 5, 0, 3, 6)
    repeated = blocks[:, :, :, :, :, None].expand(-1, -1, -1, -1, -1, frames, -1, -1)
    return repeated.reshape(rows * cols * merge * merge, -1)
