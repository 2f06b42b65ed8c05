"""Random images after the tower, of awkward sizes, for the tests of this folder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from foveate.models.records import MediaFeatures, Region, VisualGrid

WIDTH, KEY_WIDTH = 20, 6
# (rows, cols): square and not, prime, a line, one token, and larger than a window or a stretch.
SHAPES = ((1, 1), (1, 7), (5, 3), (4, 4), (7, 11), (9, 6), (8, 13))


def raster(rows: int, cols: int) -> VisualGrid:
    return VisualGrid(
        tokens=rows * cols, rows=rows, cols=cols, tiles=((rows, cols),), pixel_width=cols, pixel_height=rows
    )


def tiled(side: int, tile_rows: int, tile_cols: int) -> VisualGrid:
    """An overview and an area of tile_rows x tile_cols tiles whose rows end in a newline, as LLaVA-NeXT has."""
    rows, cols = side * tile_rows - 1, side * tile_cols  # one row of padding was cut
    area = Region(
        rows=rows,
        cols=cols,
        row_cuts=tuple(max(0, side * index - 1) for index in range(tile_rows)),
        col_cuts=tuple(side * index for index in range(tile_cols)),
        row_ends=True,
    )
    return VisualGrid(
        tokens=side * side + area.tokens,
        rows=rows,
        cols=cols,
        tiles=((side, side),) * (1 + tile_rows * tile_cols),
        pixel_width=cols,
        pixel_height=rows,
        extra=rows,
        regions=(Region(rows=side, cols=side, overview=True), area),
    )


def image(grid: VisualGrid, seed: int, *, ties: bool = False) -> MediaFeatures:
    """Features, salience rows and keys; with ties, values from small sets so that many are exactly equal."""
    generator = torch.Generator().manual_seed(seed)
    n = grid.tokens
    if ties:
        features = torch.eye(WIDTH)[torch.randint(4, (n,), generator=generator)]
        keys = torch.eye(KEY_WIDTH)[torch.randint(3, (n,), generator=generator)]
        rows = [torch.randint(1, 4, (n,), generator=generator) / 8 for _ in range(2)]
    else:
        features = torch.randn(n, WIDTH, generator=generator)
        keys = torch.randn(n, KEY_WIDTH, generator=generator)
        # Heavy-tailed, as attention is, so that there are outliers.
        rows = [torch.randn(n, generator=generator).mul(1.5).exp() for _ in range(2)]
        rows = [row / row.sum() for row in rows]
    return MediaFeatures(
        features=features,
        grid=grid,
        salience=rows[0],
        shallow_salience=rows[1],
        keys=keys,
        deepstack=(features * 2,),
        digest=f"picture {seed}",
    )


def as_set(item: MediaFeatures, k: int) -> dict[str, Any]:
    """What a reference is given of an image of one raster."""
    return {
        "features": item.features.double().numpy(),
        "salience": item.salience.double().numpy(),
        "shallow": item.shallow_salience.double().numpy(),
        "keys": item.keys.double().numpy(),
        "rows": item.grid.rows,
        "cols": item.grid.cols,
        "k": k,
    }


def stacked(result: dict[int, np.ndarray]) -> tuple[list[int], np.ndarray]:
    """Ascending ids and their outputs."""
    ids = sorted(result)
    return ids, np.stack([result[index] for index in ids])
