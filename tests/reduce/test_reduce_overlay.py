"""What an overlay shows: kept tokens as bright as the picture, dropped ones dim, each in its place."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from foveate.models.records import Region, VisualGrid
from foveate.reduce.keep_map import KeepMap
from foveate.reduce.overlay import LONGEST, MARGIN, draw_overlay

GREY = Image.new("RGB", (80, 40), (200, 200, 200))


def keep_map(grid: VisualGrid, kept: list[int]) -> KeepMap:
    return KeepMap(
        grid=grid, kept=torch.tensor(kept), asked="2", reason="a test", method="random.1(seed=0)@2"
    )


def brightness(overlay: Image.Image, x: float, y: float, panel: int = 0, panels: int = 1) -> int:
    """At a place given in shares of a panel."""
    width = (overlay.width - MARGIN * (panels + 1)) // panels
    height = LONGEST * 40 // 80
    left = MARGIN + panel * (width + MARGIN)
    return overlay.getpixel((int(left + x * width), int(MARGIN + y * height)))[0]  # type: ignore[index]


def test_one_raster() -> None:
    grid = VisualGrid(tokens=8, rows=2, cols=4, tiles=((2, 4),), pixel_width=80, pixel_height=40)
    overlay = draw_overlay(GREY, keep_map(grid, [1, 6]))
    seen = [[brightness(overlay, (col + 0.5) / 4, (row + 0.5) / 2) for col in range(4)] for row in range(2)]
    assert seen == [[50, 200, 50, 50], [50, 50, 200, 50]]


def test_an_overview_stands_beside_its_tiles() -> None:
    regions = (
        Region(rows=2, cols=2, overview=True),
        Region(rows=2, cols=4, col_cuts=(0, 2)),
    )
    grid = VisualGrid(
        tokens=12, rows=2, cols=4, tiles=((2, 2),) * 3, pixel_width=80, pixel_height=40, regions=regions
    )
    overlay = draw_overlay(GREY, keep_map(grid, [0, 11]))
    assert brightness(overlay, 0.25, 0.25, 0, 2) == 200 and brightness(overlay, 0.75, 0.75, 0, 2) == 50
    assert brightness(overlay, 0.875, 0.75, 1, 2) == 200 and brightness(overlay, 0.125, 0.25, 1, 2) == 50


@pytest.mark.parametrize("cropped", [True, False])
def test_a_processor_that_crops_shows_the_middle_alone(cropped: bool) -> None:
    picture = Image.new("RGB", (160, 40), (0, 0, 0))
    picture.paste((200, 200, 200), (60, 0, 100, 40))  # the middle square is bright
    grid = VisualGrid(tokens=4, rows=2, cols=2, tiles=((2, 2),), pixel_width=40, pixel_height=40)
    overlay = draw_overlay(picture, keep_map(grid, [0, 1, 2, 3]), cropped=cropped)
    assert overlay.getpixel((MARGIN + 30, MARGIN + 100)) == ((200,) * 3 if cropped else (0,) * 3)
