"""Markers as VPBench varies them: its default look, its 16 one-factor changes, and the words that go with each.

Owns the looks by name, the drawing on real pictures (VPBench's geometry, in pixels) and the translation to the world's
own markers (`foveate.world.MarkerStyle`, in picture heights). Draws from coordinates each time a picture is opened and
takes no random numbers. Knows no tasks.

Geometry of Feng et al. 2025 (arXiv 2512.17875): a marker is an outline two pixels wide, its label white on a black
plate. Labels are set in Pillow's own font with capitals as high as theirs, so letters differ in form from theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from foveate.errors import nearest
from foveate.evaluate.contract import EvaluationError
from foveate.world.scene import MarkerStyle

_COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
_LINE = 2  # pixels
_PADDING = 2  # of the plate behind a label
_LETTERS, _DIGITS = "ABCD", "1234"
# Capitals of OpenCV's Hershey font are 21 pixels at scale 1; those of Pillow's font are 0.71 of its size.
_FONT_PIXELS = 21 / 0.71
# Where a label stands is given for each scale: its top edge, in pixels from the marked point.
_ABOVE = {0.2: -17, 0.5: -25, 1.0: -35}
_OFFSETS = {"below": (0, 12), "left": (-18, -7), "right": (18, -7)}
_REFERENCE_ASIDE = 27  # a label of three letters needs more room to the side


@dataclass(frozen=True, kw_only=True)
class MarkerLook:
    """How markers look, in VPBench's terms. The defaults are its default.

    Attributes:
        shape: "circle", "square", "diamond" or "triangle".
        colour: of the outline, by name.
        radius: pixels on a real picture.
        font_scale: of labels; 0.5 has capitals of some 10 pixels.
        label: which side of the point it stands: "above", "below", "left" or "right".
        digits: labels are 1, 2, ... instead of A, B, ...
    """

    shape: str = "circle"
    colour: str = "red"
    radius: int = 5
    font_scale: float = 0.5
    label: str = "above"
    digits: bool = False

    def labels(self, count: int) -> tuple[str, ...]:
        """The first labels in order."""
        return tuple((_DIGITS if self.digits else _LETTERS)[:count])

    def world_style(self) -> MarkerStyle:
        """The world's marker that differs from its default by the same factor. Its sizes are in picture heights."""
        plain = MarkerStyle()
        return MarkerStyle(
            shape=self.shape,
            colour=self.colour,
            radius=plain.radius * self.radius / _DEFAULT.radius,
            font_size=plain.font_size * self.font_scale / _DEFAULT.font_scale,
            label_position=self.label,
            labels="digits" if self.digits else "letters",
        )

    def describe(self) -> dict[str, Any]:
        """JSON-ready, every field."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


_DEFAULT = MarkerLook()
DEFAULT_LOOK = "default"
# One factor at a time, as VPBench names its groups.
LOOKS: dict[str, MarkerLook] = {
    DEFAULT_LOOK: _DEFAULT,
    **{f"radius-{radius}": replace(_DEFAULT, radius=radius) for radius in (1, 3, 10, 15)},
    **{shape: replace(_DEFAULT, shape=shape) for shape in ("square", "diamond", "triangle")},
    **{f"font-{scale}": replace(_DEFAULT, font_scale=scale) for scale in (0.2, 1.0)},
    **{f"label-{side}": replace(_DEFAULT, label=side) for side in ("below", "left", "right")},
    "digits": replace(_DEFAULT, digits=True),
    **{colour: replace(_DEFAULT, colour=colour) for colour in ("green", "blue", "yellow")},
}


def marker_look(name: str) -> MarkerLook:
    """The look of this name.

    Raises:
        EvaluationError: none has it, naming the nearest.
    """
    if name not in LOOKS:
        raise EvaluationError(f"There is no marker style {name!r}", fix=nearest(name, LOOKS))
    return LOOKS[name]


def draw_markers(
    image: Image.Image, points: Mapping[str, tuple[float, float]], look: MarkerLook
) -> Image.Image:
    """A copy of a picture with labelled markers, in the order given; later ones lie on top.

    Args:
        points: for each label where it points, in pixels (x, y) from the left top corner.
    """
    drawn = image.convert("RGB").copy()
    draw = ImageDraw.Draw(drawn)
    for label, (x, y) in points.items():
        _outline(draw, look, int(x), int(y))
        _label(draw, look, label, int(x), int(y))
    return drawn


def _outline(draw: ImageDraw.ImageDraw, look: MarkerLook, x: int, y: int) -> None:
    radius, shade = look.radius, _COLOURS[look.colour]
    # The line is centred on the radius, as OpenCV has it; Pillow's lies inside the box.
    box = (x - radius - 1, y - radius - 1, x + radius + 1, y + radius + 1)
    if look.shape == "circle":
        draw.ellipse(box, outline=shade, width=_LINE)
        return
    if look.shape == "square":
        draw.rectangle(box, outline=shade, width=_LINE)
        return
    corners = {
        "diamond": [(0, -1), (1, 0), (0, 1), (-1, 0)],
        "triangle": [(0, -1), (-1, 1), (1, 1)],
    }[look.shape]
    path = [(x + radius * dx, y + radius * dy) for dx, dy in corners]
    draw.line([*path, path[0], path[1]], fill=shade, width=_LINE, joint="curve")


def _label(draw: ImageDraw.ImageDraw, look: MarkerLook, label: str, x: int, y: int) -> None:
    font = _font(round(_FONT_PIXELS * look.font_scale))
    left, top, right, bottom = (round(edge) for edge in font.getbbox(label, anchor="lt"))
    width, height = right - left, bottom - top
    dx, dy = (0, _ABOVE[look.font_scale]) if look.label == "above" else _OFFSETS[look.label]
    if dx and len(label) > 1:
        dx = _REFERENCE_ASIDE if dx > 0 else -_REFERENCE_ASIDE
    x0, y0 = x - width // 2 + dx, y + dy
    if y0 < 0:  # no room above
        y0 = y + look.radius + 5
    draw.rectangle((x0 - _PADDING, y0 - _PADDING, x0 + width, y0 + height + _PADDING), fill=(0, 0, 0))
    draw.text((x0 - left, y0 - top), label, fill=(255, 255, 255), font=font, anchor="lt")


@lru_cache(maxsize=8)
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=pixels)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font
