"""Draws the ground of aerial scenes: polygons with grain, and furrows of fields. Knows no objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from foveate.world.scene import Patch

_GRAIN = 3.0  # of brightness, in levels of 255
_FURROW = 0.008  # width of a furrow, in heights of the picture


def draw_patches(image: Image.Image, patches: Sequence[Patch]) -> None:
    """The patches over what is there, in their order; lengths in heights of the image."""
    size = image.height
    for number, patch in enumerate(patches):
        corners = [(x * size, y * size) for x, y in patch.corners]
        left, top = (max(0, int(min(c[axis] for c in corners))) for axis in (0, 1))
        right = min(image.width, int(max(x for x, _ in corners)) + 1)
        bottom = min(size, int(max(y for _, y in corners)) + 1)
        if right <= left or bottom <= top:
            continue
        mask = Image.new("L", (right - left, bottom - top), 0)
        ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in corners], fill=255)
        image.paste(_surface(patch, number, mask.size, size), (left, top), mask)


def _surface(patch: Patch, number: int, extent: tuple[int, int], size: int) -> Image.Image:
    width, height = extent
    brightness = np.random.default_rng([number, width, height]).normal(0, _GRAIN, (height, width))
    if patch.furrows is not None:
        along = np.radians(patch.furrows)
        ys, xs = np.ogrid[0:height, 0:width]
        phase = (xs * np.sin(along) + ys * np.cos(along)) / max(2.0, _FURROW * size)
        brightness += 7 * np.sin(2 * np.pi * phase)
    pixels = np.asarray(patch.shade, dtype=np.float32) + brightness[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
