"""The patch rows of Qwen's processors and the pictures they were cut from.

Owns the order of values in a row: patches in time order, then blocks of merge x merge patches together; in a patch
channels, frames, rows, columns. A patch covers `frames` frames; a still image is its own next frame.
"""

from __future__ import annotations

import torch


def pictures_of(
    patches: torch.Tensor, rows: int, cols: int, *, merge: int, patch: int, frames: int
) -> torch.Tensor:
    """[steps * rows * cols * merge^2, c] -> [steps * frames, 3, H, W].

    rows, cols: in blocks of merge x merge patches.
    """
    blocks = patches.reshape(-1, rows, cols, merge, merge, 3, frames, patch, patch)
    ordered = blocks.permute(0, 6, 5, 1, 3, 7, 2, 4, 8)
    return ordered.reshape(-1, 3, rows * merge * patch, cols * merge * patch)


def patches_of(pictures: torch.Tensor, *, merge: int, patch: int, frames: int) -> torch.Tensor:
    """[T, 3, H, W] -> [T / frames * rows * cols * merge^2, 3 * frames * patch^2]; the inverse of `pictures_of`.

    Where T is no multiple of `frames`, the last picture is repeated until it is.
    """
    count, _, height, width = pictures.shape
    missing = -count % frames
    if missing:
        pictures = torch.cat([pictures, pictures[-1:].expand(missing, -1, -1, -1)])
    rows, cols = height // (merge * patch), width // (merge * patch)
    blocks = pictures.reshape(-1, frames, 3, rows, merge, patch, cols, merge, patch)
    return blocks.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(-1, 3 * frames * patch * patch)
