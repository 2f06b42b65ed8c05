"""Draws a scene: RGB, instance masks, boxes, depth and the place of every printed character.

Pixels and truth come from one pass, so they cannot disagree. Sizes are in pixels; `size` is the height.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from foveate.world.ground import draw_patches
from foveate.world.scene import Background, BarChart, MarkerStyle, Scene, SceneObject, Table
from foveate.world.vocabulary import COLOURS, RGB

_SUPERSAMPLE = 2
_INK: RGB = (20, 20, 20)


@dataclass(frozen=True, slots=True)
class Glyph:
    """One printed character and its box in pixels (left, top, right, bottom)."""

    character: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Rendering:
    """Pixels and truth of one scene.

    Attributes:
        rgb: [H, W, 3] uint8.
        ids: [H, W] int16, the id of the nearest object at each pixel, -1 for the background.
        depth: [H, W] float32 in 0..1, 1 where only the background is seen.
        glyphs: every printed character, in reading order within its line.
    """

    rgb: np.ndarray
    ids: np.ndarray
    depth: np.ndarray
    glyphs: tuple[Glyph, ...]

    def mask(self, object_id: int) -> np.ndarray:
        """[H, W] bool: the visible pixels of one object."""
        return self.ids == object_id

    def visible_box(self, object_id: int) -> tuple[int, int, int, int] | None:
        """Pixel box of what can be seen of an object, right and bottom exclusive; None when hidden."""
        ys, xs = np.nonzero(self.ids == object_id)
        if len(xs) == 0:
            return None
        return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


class _Canvas:
    def __init__(self, scene: Scene, size: int) -> None:
        self.size = size
        self.width = round(size * scene.aspect)
        self.image = _background(scene.background, self.width, size)
        self.ids = Image.new("I", (self.width, size), -1)
        self.draw = ImageDraw.Draw(self.image)
        self.glyphs: list[Glyph] = []

    def text(
        self, text: str, x: float, y: float, font_pixels: float, shade: RGB, *, stroke: bool = False
    ) -> None:
        """Print with the left top corner at pixel (x, y) and note where each character fell."""
        font = _font(max(6, round(font_pixels)))
        outline = (255, 255, 255) if sum(shade) < 384 else (0, 0, 0)
        if stroke:
            self.draw.text(
                (x, y), text, fill=shade, font=font, anchor="lt", stroke_width=1, stroke_fill=outline
            )
        else:
            self.draw.text((x, y), text, fill=shade, font=font, anchor="lt")
        bottom = y + font.getbbox(text, anchor="lt")[3]
        for i, character in enumerate(text):
            if not character.isspace():
                left, right = font.getlength(text[:i]), font.getlength(text[: i + 1])
                self.glyphs.append(Glyph(character, (x + left, y, x + right, bottom)))

    def centred_text(
        self, text: str, x: float, y: float, font_pixels: float, shade: RGB, *, stroke: bool = False
    ) -> None:
        left, top, right, bottom = _font(max(6, round(font_pixels))).getbbox(text, anchor="lt")
        self.text(text, x - (right - left) / 2, y - (bottom - top) / 2, font_pixels, shade, stroke=stroke)


def render(scene: Scene, size: int = 168) -> Rendering:
    """Draw a scene `size` pixels high and round(size * aspect) wide, far objects first."""
    canvas = _Canvas(scene, size)
    draw_patches(canvas.image, scene.patches)
    for item in scene.far_to_near():
        _draw_object(canvas, item)
    for block in scene.texts:
        canvas.text(block.text, block.x * size, block.y * size, block.height * size, block.shade)
    for table in scene.tables:
        _draw_table(canvas, table)
    for chart in scene.charts:
        _draw_chart(canvas, chart)
    _draw_markers(canvas, scene)
    ids = np.asarray(canvas.ids, dtype=np.int16)
    depths = np.ones(max((o.id for o in scene.objects), default=0) + 2, dtype=np.float32)
    for item in scene.objects:
        depths[item.id] = item.depth  # index -1 (the background) keeps depth 1
    return Rendering(np.asarray(canvas.image), ids, depths[ids], tuple(canvas.glyphs))


def render_frames(
    scene: Scene, *, size: int = 168, seconds: float = 2.0, frames_per_second: float = 8.0
) -> Iterator[Rendering]:
    """Frames of a moving scene, the first at time 0."""
    for frame in range(max(1, round(seconds * frames_per_second))):
        yield render(scene.at(frame / frames_per_second), size)


@lru_cache(maxsize=64)
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    # Pillow carries a real outline font (Aileron), so that no system font is needed and pixels do not vary.
    font = ImageFont.load_default(size=pixels)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


@lru_cache(maxsize=64)
def _noise(kind: str, variant: int) -> np.ndarray:
    """[256, 256] float32 around 0, the same on every machine."""
    rng = np.random.default_rng([variant, len(kind)])
    if kind == "speckle":
        return rng.normal(0, 1, (256, 256)).astype(np.float32)
    if kind == "weave":
        period, slope = int(rng.integers(8, 20)), int(rng.integers(0, 3))
        ys, xs = np.mgrid[0:256, 0:256]
        return np.sin((xs + slope * ys) * 2 * np.pi / period).astype(np.float32)
    if kind == "gradient":
        ys, xs = np.mgrid[-1:1:256j, -1:1:256j]
        angle = rng.uniform(0, 2 * np.pi)
        return (1.5 * (np.cos(angle) * xs + np.sin(angle) * ys)).astype(np.float32)
    # photo: 1/f noise, the spectrum of natural images, plus a little sensor grain.
    fx, fy = np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256))
    radius = np.maximum(np.hypot(fx, fy), 1 / 256)
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(256, 256))) / radius**1.3).real
    field = (field - field.mean()) / field.std()
    return (field + 0.25 * rng.normal(size=(256, 256))).astype(np.float32)


@lru_cache(maxsize=256)
def _texture_field(kind: str, variant: int, width: int, height: int) -> np.ndarray:
    field = Image.fromarray(_noise(kind, variant)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(field)[..., None]


def _background(background: Background, width: int, height: int) -> Image.Image:
    if background.kind == "plain":
        return Image.new("RGB", (width, height), background.shade)
    strength = {"gradient": 18, "weave": 10, "speckle": 12, "photo": 16}[background.kind]
    field = _texture_field(background.kind, background.seed % 12, width, height)
    turn = (background.seed // 12) % 4
    if width == height and turn:
        field = np.rot90(field, turn)
    pixels = np.asarray(background.shade, dtype=np.float32) + strength * field
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def ink_on(shade: RGB) -> RGB:
    """The colour of print on an object: dark on light ones, light on dark ones."""
    return _INK if sum(shade) > 384 else (250, 250, 250)


def second_shade(shade: RGB) -> RGB:
    """The other tone of a pattern: darker for light colours, lighter for black, hue kept."""
    if sum(shade) < 150:
        return (110, 110, 110)
    return (int(shade[0] * 0.55), int(shade[1] * 0.55), int(shade[2] * 0.55))


def _fill(item: SceneObject, width: int, height: int, size: int) -> Image.Image | RGB:
    if item.texture == "plain":
        return item.shade
    period = max(4, round(size * 0.048))
    ys, xs = np.ogrid[0:height, 0:width]
    if item.texture == "striped":
        second = np.broadcast_to(((xs + ys) // (period // 2)) % 2 == 1, (height, width))
    else:
        dx, dy = xs % period - period / 2 + 0.5, ys % period - period / 2 + 0.5
        second = dx * dx + dy * dy < (0.33 * period) ** 2
    colours = np.array([item.shade, second_shade(item.shade)], dtype=np.uint8)
    return Image.fromarray(colours[second.astype(np.uint8)])


def _draw_object(canvas: _Canvas, item: SceneObject) -> None:
    size = canvas.size
    left, top, right, bottom = item.box()
    x0, y0 = int(left * size) - 1, int(top * size) - 1
    width, height = int(right * size) + 2 - x0, int(bottom * size) + 2 - y0
    scale = _SUPERSAMPLE
    mask = Image.new("L", (width * scale, height * scale), 0)
    corners = [((px * size - x0) * scale, (py * size - y0) * scale) for px, py in item.outline()]
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    mask = mask.reduce(scale)
    box = (x0, y0, x0 + width, y0 + height)
    fill = _fill(item, width, height, size)
    if isinstance(fill, Image.Image):
        canvas.image.paste(fill, (x0, y0), mask)
    else:
        canvas.image.paste(fill, box, mask)
    canvas.ids.paste(item.id, box, mask.point(lambda value: 255 if value > 127 else 0))
    # The paste does not hide characters of farther objects, so their glyphs are dropped when covered.
    canvas.glyphs = [g for g in canvas.glyphs if not _covered(canvas, g, item.id)]
    if item.text:
        font_pixels = item.radius * size * (1.25 if len(item.text) == 1 else 0.85)
        canvas.centred_text(item.text, item.x * size, item.y * size, font_pixels, ink_on(item.shade))


def _covered(canvas: _Canvas, glyph: Glyph, object_id: int) -> bool:
    left, top, right, bottom = glyph.box
    x, y = int((left + right) / 2), int((top + bottom) / 2)
    inside = 0 <= x < canvas.width and 0 <= y < canvas.size
    return inside and canvas.ids.getpixel((x, y)) == object_id


def _draw_table(canvas: _Canvas, table: Table) -> None:
    size = canvas.size
    width, height = table.column_width * size, table.row_height * size
    x0, y0 = table.x * size, table.y * size
    columns, rows = len(table.rows[0]), len(table.rows)
    canvas.draw.rectangle(
        (x0, y0, x0 + columns * width, y0 + rows * height), fill=(252, 252, 252), outline=_INK
    )
    canvas.draw.rectangle((x0, y0, x0 + columns * width, y0 + height), fill=(214, 222, 235), outline=_INK)
    for row, cells in enumerate(table.rows):
        canvas.draw.line((x0, y0 + row * height, x0 + columns * width, y0 + row * height), fill=_INK)
        for column, cell in enumerate(cells):
            centre = x0 + (column + 0.5) * width, y0 + (row + 0.5) * height
            canvas.centred_text(cell, *centre, height * 0.62, _INK)
    for column in range(columns):
        canvas.draw.line((x0 + column * width, y0, x0 + column * width, y0 + rows * height), fill=_INK)


def _draw_chart(canvas: _Canvas, chart: BarChart) -> None:
    size = canvas.size
    x0, y0 = chart.x * size, chart.y * size
    width, height = chart.width * size, chart.height * size
    base = y0 + height
    canvas.draw.rectangle((x0, y0, x0 + width, base), fill=(252, 252, 252))
    font_pixels = 0.075 * size
    for tick in range(chart.maximum + 1):
        y = base - height * tick / chart.maximum
        shade = (150, 150, 150) if tick % 5 == 0 else (222, 222, 222)
        canvas.draw.line((x0, y, x0 + width, y), fill=shade)
        if tick % 5 == 0:
            canvas.centred_text(str(tick), x0 - 0.06 * size, y, font_pixels, _INK)
    step = width / len(chart.labels)
    for i, (label, value) in enumerate(zip(chart.labels, chart.values, strict=True)):
        left = x0 + step * (i + 0.2)
        top = base - height * value / chart.maximum
        canvas.draw.rectangle((left, top, left + 0.6 * step, base), fill=chart.shades[i])
        canvas.centred_text(label, x0 + step * (i + 0.5), base + 0.06 * size, font_pixels * 1.15, _INK)
    canvas.draw.line((x0, base, x0 + width, base), fill=_INK, width=2)
    canvas.draw.line((x0, y0, x0, base), fill=_INK, width=2)


def _marker_outline(style: MarkerStyle, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    if style.shape == "square":
        return [
            (x - radius, y - radius),
            (x + radius, y - radius),
            (x + radius, y + radius),
            (x - radius, y + radius),
        ]
    if style.shape == "diamond":
        return [(x, y - 1.3 * radius), (x + 1.3 * radius, y), (x, y + 1.3 * radius), (x - 1.3 * radius, y)]
    return [(x, y - 1.3 * radius), (x + 1.2 * radius, y + radius), (x - 1.2 * radius, y + radius)]


def _draw_markers(canvas: _Canvas, scene: Scene) -> None:
    style, size = scene.marker_style, canvas.size
    radius, font_pixels = max(1.0, style.radius * size), style.font_size * size
    shade = COLOURS[style.colour]
    outline = (255, 255, 255) if sum(shade) < 600 else (0, 0, 0)
    gap = radius + 0.55 * font_pixels
    offsets = {"above": (0, -gap), "below": (0, gap), "left": (-gap, 0), "right": (gap, 0)}
    for marker in scene.markers:
        x, y = marker.x * size, marker.y * size
        if style.shape == "circle":
            canvas.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade, outline=outline)
        else:
            canvas.draw.polygon(_marker_outline(style, x, y, radius), fill=shade, outline=outline)
        dx, dy = offsets[style.label_position]
        canvas.centred_text(marker.label, x + dx, y + dy, font_pixels, shade, stroke=True)
