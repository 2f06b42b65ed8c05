"""The any-resolution layout of LLaVA-NeXT and LLaVA-OneVision: base tile, grid of tiles, newline per row.

Owns where tokens come from and how many there are, from the image's size alone. Packing features is left to
the transformers model, which salience then follows through the same function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from foveate.models.records import Region


@dataclass(frozen=True, kw_only=True)
class AnyresLayout:
    """The tiles of one image and, after padding is cut and rows are ended, its area in tokens.

    `uncut_rows` and `uncut_cols` are what the tiles would measure with their padding, at the area's scale.
    """

    tile_rows: int
    tile_cols: int
    side: int
    rows: int
    cols: int
    uncut_rows: float
    uncut_cols: float

    @property
    def regions(self) -> tuple[Region, ...]:
        """The base tile, then the area, whose rows end in a newline and which several tiles fill."""
        area = Region(
            rows=self.rows,
            cols=self.cols,
            row_cuts=_cuts(self.rows, self.uncut_rows, self.tile_rows),
            col_cuts=_cuts(self.cols, self.uncut_cols, self.tile_cols),
            row_ends=True,
        )
        return (Region(rows=self.side, cols=self.side, overview=True), area)

    @property
    def tokens(self) -> int:
        """The base tile, the area, and one newline per row of the area."""
        return self.side * self.side + self.rows * (self.cols + 1)


def anyres_layout(
    width: int,
    height: int,
    *,
    pinpoints: Sequence[Sequence[int]],
    tile: int,
    patch: int,
    max_tiles: int | None = None,
) -> AnyresLayout:
    """The layout of an image of width x height pixels.

    Args:
        pinpoints: allowed (height, width) in pixels, multiples of `tile`.
        tile, patch: sides of a tower input and of a patch in pixels.
        max_tiles: OneVision's cap: an area beyond max_tiles tiles is interpolated down to it.
    """
    from transformers.image_processing_utils import select_best_resolution

    best_height, best_width = select_best_resolution((height, width), [list(point) for point in pinpoints])
    side = tile // patch
    tile_rows, tile_cols = best_height // tile, best_width // tile
    rows, cols = tile_rows * side, tile_cols * side
    uncut_rows, uncut_cols = float(rows), float(cols)
    # The picture was fitted inside the canvas; rows or columns that are padding alone are cut on both sides.
    if width / height > cols / rows:
        rows -= 2 * ((rows - int(round(height * (cols / width), 7))) // 2)
    else:
        cols -= 2 * ((cols - int(round(width * (rows / height), 7))) // 2)
    if max_tiles is not None:
        ratio = math.sqrt(rows * cols / (max_tiles * side**2))
        if ratio > 1.1:
            uncut_rows, uncut_cols = (
                uncut_rows * int(rows // ratio) / rows,
                uncut_cols * int(cols // ratio) / cols,
            )
            rows, cols = int(rows // ratio), int(cols // ratio)
    return AnyresLayout(
        tile_rows=tile_rows,
        tile_cols=tile_cols,
        side=side,
        rows=rows,
        cols=cols,
        uncut_rows=uncut_rows,
        uncut_cols=uncut_cols,
    )


def _cuts(kept: int, uncut: float, tiles: int) -> tuple[int, ...]:
    """The first of `kept` rows (or columns) that each tile shows; half of the padding was cut on either side.

    A row belongs to the tile its middle lies in; a tile that was padding alone shows none and has no cut.
    """
    size, before = uncut / tiles, (uncut - kept) / 2
    owners = [min(int((before + index + 0.5) / size), tiles - 1) for index in range(kept)]
    return tuple(index for index in range(kept) if index == 0 or owners[index] != owners[index - 1])


def pack(
    core: Any, tiles: Sequence[torch.Tensor], sizes: torch.Tensor, newline: torch.Tensor, **keywords: Any
) -> list[torch.Tensor]:
    """Per image [tiles, n, D] -> [N, D] by the transformers model's own packing.

    Args:
        sizes: [images, 2] heights and widths in pixels before resizing.
        newline: [D]; zeros for salience, whose separators are worth nothing.
    """
    packed, _ = core.pack_image_features(list(tiles), sizes, image_newline=newline, **keywords)
    return list(packed)
