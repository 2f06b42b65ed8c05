"""Published pictures with markers drawn on them when they are opened. Shared by VPBench's tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from foveate.errors import MediaError
from foveate.evaluate.perturb.markers import MarkerLook, draw_markers
from foveate.media import open_image


def point(value: Any) -> tuple[float, float]:
    """Two numbers of a row.

    Raises:
        ValueError: anything else.
    """
    numbers = isinstance(value, Sequence) and len(value) == 2
    if not numbers or not all(type(v) in (int, float) and math.isfinite(v) for v in value):
        raise ValueError(f"a point is two numbers, not {value!r}")
    return float(value[0]), float(value[1])


def open_marked(
    file: Path,
    points: Mapping[str, tuple[float, float]],
    look: MarkerLook,
    size: tuple[int, int] | None = None,
) -> Image.Image:
    """A picture with markers at its pixels (x, y).

    Args:
        size: (width, height) that the picture is resized to before markers are drawn; points move along.

    Raises:
        MediaError: the picture cannot be opened, or a point lies outside it: the question cannot be asked then.
    """
    image = open_image(file).pil()
    for label, (x, y) in points.items():
        if not (0 <= x < image.width and 0 <= y < image.height):
            raise MediaError(
                f"The point {label} of {file.name} cannot be marked",
                why=f"({x:g}, {y:g}) lies outside {image.width} x {image.height} pixels",
            )
    if size is not None:
        scale_x, scale_y = size[0] / image.width, size[1] / image.height
        image = image.resize(size, Image.Resampling.LANCZOS)
        points = {label: (x * scale_x, y * scale_y) for label, (x, y) in points.items()}
    return draw_markers(image, points, look)
