"""Where each visual token of an image stands: its tile, row and column, and the part of the picture it shows.

Owns the reading of `VisualGrid.regions`. Separators (newlines, a kept CLS token) are told apart here, once, for
every method. Knows no features and no method.
"""

from __future__ import annotations

import bisect
import functools
from dataclasses import dataclass, replace

import torch

from foveate.models.records import Region, VisualGrid


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One tower input as the language model sees it.

    rows, cols: its tokens; box: top, left, bottom, right of what it shows, as shares of the picture;
    overview: whether it shows all of a picture that other tiles show in parts.
    """

    rows: int
    cols: int
    box: tuple[float, float, float, float]
    overview: bool

    @property
    def tokens(self) -> int:
        """Tokens that show the picture."""
        return self.rows * self.cols


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenLayout:
    """The n tokens of an image that show the picture, out of N.

    Attributes:
        total: N, separators included.
        content: [n] ids of the tokens that show the picture, ascending.
        tile: [n] which of `tiles` a token belongs to.
        row, col: [n] place within the tile.
        centre: [n, 2] float32 (y, x) of the token's middle, as shares of the picture.
    """

    total: int
    content: torch.Tensor
    tile: torch.Tensor
    row: torch.Tensor
    col: torch.Tensor
    centre: torch.Tensor
    tiles: tuple[Tile, ...]

    @property
    def count(self) -> int:
        """n."""
        return int(self.content.shape[0])

    @property
    def overview(self) -> int | None:
        """The tile that shows the whole picture beside tiles that show parts, if there is one."""
        return next((index for index, tile in enumerate(self.tiles) if tile.overview), None)

    def to(self, device: torch.device) -> TokenLayout:
        """The same with its tensors there."""
        names = ("content", "tile", "row", "col", "centre")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def _regions(grid: VisualGrid) -> tuple[Region, ...]:
    if grid.regions:
        return grid.regions
    assert grid.tokens == grid.rows * grid.cols, f"a grid without regions must be one raster: {grid}"
    return (Region(rows=grid.rows, cols=grid.cols),)


@functools.lru_cache(maxsize=256)
def layout_of(grid: VisualGrid, device: torch.device | None = None) -> TokenLayout:
    """The layout of a grid, on the CPU where no device is given; computed once for each grid and device."""
    if device is not None and device.type != "cpu":
        return layout_of(grid).to(device)
    content: list[int] = []
    places: list[tuple[int, int, int]] = []
    centres: list[tuple[float, float]] = []
    tiles: list[Tile] = []
    start = 0
    for region in _regions(grid):
        first, across = len(tiles), len(region.col_cuts)
        tiles += _tiles_of(region)
        top, left, bottom, right = region.box
        index = start + region.before
        for row in range(region.rows):
            tile_row = bisect.bisect_right(region.row_cuts, row) - 1
            for col in range(region.cols):
                tile_col = bisect.bisect_right(region.col_cuts, col) - 1
                content.append(index + col)
                places.append(
                    (
                        first + tile_row * across + tile_col,
                        row - region.row_cuts[tile_row],
                        col - region.col_cuts[tile_col],
                    )
                )
                centres.append(
                    (
                        top + (row + 0.5) / region.rows * (bottom - top),
                        left + (col + 0.5) / region.cols * (right - left),
                    )
                )
            index += region.cols + int(region.row_ends)
        start += region.tokens
    assert start == grid.tokens, f"the regions have {start} tokens and the grid {grid.tokens}"
    tile, row_in_tile, col_in_tile = torch.tensor(places, dtype=torch.long).unbind(1)
    return TokenLayout(
        total=grid.tokens,
        content=torch.tensor(content, dtype=torch.long),
        tile=tile,
        row=row_in_tile,
        col=col_in_tile,
        centre=torch.tensor(centres, dtype=torch.float32),
        tiles=tuple(tiles),
    )


def _tiles_of(region: Region) -> list[Tile]:
    """The tower inputs of a region in raster order."""
    top, left, bottom, right = region.box
    high, wide = (bottom - top) / region.rows, (right - left) / region.cols
    tiles = []
    for row, row_end in zip(region.row_cuts, (*region.row_cuts[1:], region.rows), strict=True):
        for col, col_end in zip(region.col_cuts, (*region.col_cuts[1:], region.cols), strict=True):
            box = (top + row * high, left + col * wide, top + row_end * high, left + col_end * wide)
            tiles.append(Tile(rows=row_end - row, cols=col_end - col, box=box, overview=region.overview))
    return tiles
