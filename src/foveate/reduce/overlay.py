"""A keep-map over its picture: what the language model saw, and what it did not.

Owns the drawing only. Kept tokens show the picture with a light frame, dropped ones are dimmed; both differ in
brightness and in outline, so the picture reads without colours. Knows no model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from foveate.errors import ReductionError
from foveate.reduce.layout import TokenLayout, layout_of

if TYPE_CHECKING:
    from foveate.reduce.keep_map import KeepMap

LONGEST = 768  # pixels of a panel's longer edge: tokens are then large enough to see
DIMMED = 0.25  # brightness of what was dropped
FRAME = (255, 255, 255)
MARGIN = 12
CAPTION = 36


def draw_overlay(
    picture: Image.Image, keep: KeepMap, *, cropped: bool = False, caption: str = ""
) -> Image.Image:
    """The picture with its kept tokens; an overview and the tiles of one image stand side by side.

    Args:
        picture: as it was given to the model.
        cropped: whether the processor cuts the picture's middle to its own proportions instead of squeezing it.
        caption: a line below; counts and method where it is empty.

    Raises:
        ReductionError: the keep-map is of the frames of a video, which are many pictures.
    """
    if keep.grid.frames > 1:
        raise ReductionError(
            f"A keep-map of {keep.grid.frames} frames cannot be drawn over one picture",
            fix="Draw each frame with its part: foveate.reduce.video.joining.frame_maps(keep, grid of a frame).",
        )
    layout = layout_of(keep.grid)
    size = (keep.grid.pixel_width, keep.grid.pixel_height)
    seen = picture.convert("RGB")
    if cropped:
        seen = ImageOps.fit(seen, size)
    if not cropped and layout.overview is None:
        seen = seen.resize(size)
    scale = LONGEST / max(seen.size)
    seen = seen.resize((max(1, round(seen.width * scale)), max(1, round(seen.height * scale))))
    groups = [
        [index for index, tile in enumerate(layout.tiles) if tile.overview == is_overview]
        for is_overview in (True, False)
    ]
    panels = [_panel(seen, keep, layout, set(group)) for group in groups if group]
    text = (
        caption
        or f"{keep.count:,} of {keep.total:,} visual tokens kept · {keep.method.split('.')[0]} · budget {keep.asked}"
    )
    return _side_by_side(panels, text)


def _panel(picture: Image.Image, keep: KeepMap, layout: TokenLayout, tiles: set[int]) -> Image.Image:
    """One panel: the tokens of these tiles."""
    panel = ImageEnhance.Brightness(picture).enhance(DIMMED)
    drawing = ImageDraw.Draw(panel)
    kept = keep.mask()[layout.content].tolist()
    boxes = []
    for place, (row, col, tile_index) in enumerate(
        zip(layout.row.tolist(), layout.col.tolist(), layout.tile.tolist(), strict=True)
    ):
        if not kept[place] or tile_index not in tiles:
            continue
        tile = layout.tiles[tile_index]
        top, left, bottom, right = tile.box
        high, wide = (bottom - top) / tile.rows, (right - left) / tile.cols
        boxes.append(
            (
                round((left + col * wide) * picture.width),
                round((top + row * high) * picture.height),
                round((left + (col + 1) * wide) * picture.width),
                round((top + (row + 1) * high) * picture.height),
            )
        )
    for box in boxes:
        panel.paste(picture.crop(box), box[:2])
    for box in boxes:
        drawing.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=FRAME)
    return panel


def _side_by_side(panels: list[Image.Image], text: str) -> Image.Image:
    width = sum(panel.width for panel in panels) + MARGIN * (len(panels) + 1)
    height = max(panel.height for panel in panels) + 2 * MARGIN + CAPTION
    sheet = Image.new("RGB", (width, height), (32, 32, 32))
    left = MARGIN
    for panel in panels:
        sheet.paste(panel, (left, MARGIN))
        left += panel.width + MARGIN
    ImageDraw.Draw(sheet).text(
        (MARGIN, height - CAPTION), text, fill=FRAME, font=ImageFont.load_default(size=22)
    )
    return sheet
