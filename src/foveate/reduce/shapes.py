"""Smaller rasters: which rows x cols fit a budget, and what each of their cells covers.

Owns the arithmetic that average pooling and input downsampling share, so that they are compared at equal
shapes. Knows no features.
"""

from __future__ import annotations

import functools
import math

import torch


def shape_for(rows: int, cols: int, k: int) -> tuple[int, int]:
    """The largest raster of at most k cells with nearly the shape of rows x cols, and no longer on a side.

    Of the two row counts around the one that keeps the aspect ratio the one that uses more of k is taken, of
    equals the smaller; columns fill up what is left.
    """
    assert k >= 1, "a raster has at least one cell"
    ideal = math.sqrt(k * rows / cols)
    candidates = {min(rows, k, max(1, height)) for height in (math.floor(ideal), math.ceil(ideal))}
    shapes = [(height, min(cols, k // height)) for height in sorted(candidates)]
    return max(shapes, key=lambda shape: (shape[0] * shape[1], -shape[0]))


def cell(index: int, cells: int, size: int) -> tuple[int, int, int]:
    """(first, end, middle) of one of `cells` parts of a side of `size`, as adaptive pooling cuts it."""
    first, end = index * size // cells, -(-(index + 1) * size // cells)
    return first, end, (2 * index + 1) * size // (2 * cells)


def middles(rows: int, cols: int, height: int, width: int) -> list[int]:
    """Raster ids of the tokens in the middle of each cell of a height x width raster, ascending."""
    return [
        cell(row, height, rows)[2] * cols + cell(col, width, cols)[2]
        for row in range(height)
        for col in range(width)
    ]


@functools.lru_cache(maxsize=256)
def pooling_rows(
    rows: int, cols: int, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows (into, sources, weights), [M] each, that average rows x cols tokens into height x width cells."""
    into, sources, weights = [], [], []
    for row in range(height):
        top, bottom, middle_row = cell(row, height, rows)
        for col in range(width):
            left, right, middle_col = cell(col, width, cols)
            share = 1.0 / ((bottom - top) * (right - left))
            for y in range(top, bottom):
                for x in range(left, right):
                    into.append(middle_row * cols + middle_col)
                    sources.append(y * cols + x)
                    weights.append(share)
    return torch.tensor(into), torch.tensor(sources), torch.tensor(weights)


@functools.lru_cache(maxsize=256)
def shuffling_rows(rows: int, cols: int, factor: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(kept [k], into and sources [k * factor^2]) of blocks of factor x factor tokens.

    Blocks over the edge take its last row and column again, so that each has factor^2 sources.
    """
    kept, into, sources = [], [], []
    for top in range(0, rows, factor):
        for left in range(0, cols, factor):
            middle = min(top + factor // 2, rows - 1) * cols + min(left + factor // 2, cols - 1)
            kept.append(middle)
            for place in range(factor * factor):
                y = min(top + place // factor, rows - 1)
                x = min(left + place % factor, cols - 1)
                into.append(middle)
                sources.append(y * cols + x)
    return torch.tensor(kept), torch.tensor(into), torch.tensor(sources)
