"""Pictures made worse, or of another look, by named rules: noise, blur and codecs of graded severity; fog and paint.

Severities 1 to 5 of the corruptions follow ImageNet-C (Hendrycks & Dietterich, arXiv 1903.12261), whose constants were
set for pictures of 224 pixels. Everything is a function of the pixels and a seed. Knows no task and no scene.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from foveate.errors import nearest
from foveate.evaluate.contract import EvaluationError

Change = Callable[[Image.Image, int, np.random.Generator], Image.Image]


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One change of a picture's pixels.

    Attributes:
        name: a key of `CORRUPTIONS` or of `LOOKS`.
        severity: 1 to 5; looks have one strength and ignore it.
        seed: of the noise.
    """

    name: str
    severity: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        known = CORRUPTIONS | LOOKS
        if self.name not in known:
            raise EvaluationError(f"There is no corruption {self.name!r}", fix=nearest(self.name, known))
        if not 1 <= self.severity <= 5:
            raise EvaluationError(f"A severity of {self.severity}", fix="Choose 1 to 5.")

    def apply(self, image: Image.Image) -> Image.Image:
        """The changed picture, RGB from RGB, of the same size."""
        change = (CORRUPTIONS | LOOKS)[self.name]
        return change(image.convert("RGB"), self.severity - 1, np.random.default_rng(self.seed))

    def describe(self) -> dict[str, Any]:
        """What was done."""
        return {"corruption": self.name, "severity": self.severity, "seed": self.seed}


def _fractions(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float32) / 255


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))


# -- corruptions ------------------------------------------------------------------------------------------


def _gaussian_noise(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    pixels = _fractions(image)
    return _image(pixels + rng.normal(0, (0.08, 0.12, 0.18, 0.26, 0.38)[level], pixels.shape))


def _shot_noise(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    photons = (60, 25, 12, 5, 3)[level]
    return _image(rng.poisson(_fractions(image) * photons) / photons)


def _blur(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur((1, 2, 3, 4, 6)[level]))


def _brightness(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    return _image(_fractions(image) + (0.1, 0.2, 0.3, 0.4, 0.5)[level])


def _contrast(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    pixels = _fractions(image)
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    return _image((pixels - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[level] + mean)


def _pixelate(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[level]
    small = image.resize([max(1, round(v * share)) for v in image.size], Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.BOX)


def _jpeg(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    data = io.BytesIO()
    image.save(data, format="jpeg", quality=(25, 18, 15, 10, 7)[level])
    with Image.open(data) as decoded:
        return decoded.convert("RGB")


CORRUPTIONS: dict[str, Change] = {
    "gaussian-noise": _gaussian_noise,
    "shot-noise": _shot_noise,
    "gaussian-blur": _blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
}


# -- looks: the same things, drawn in another domain ------------------------------------------------------


def _fog(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """Light grey that thickens towards the top, as distance does in a street scene (Foggy Cityscapes)."""
    pixels = _fractions(image)
    thickness = np.linspace(0.75, 0.35, pixels.shape[0], dtype=np.float32)[:, None, None]
    return _image(pixels * (1 - thickness) + 0.85 * thickness)


def _watercolour(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """Flat washes with soft edges on grained paper."""
    washes = image.filter(ImageFilter.ModeFilter(7)).filter(ImageFilter.GaussianBlur(1.2))
    paper = rng.normal(0, 0.06, (*image.size[::-1], 1))
    return _image(0.75 * _fractions(washes) + 0.25 + paper)


def _comic(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """Few tones and inked edges."""
    edges = image.convert("L").filter(ImageFilter.FIND_EDGES)
    # The filter's own frame along the border is no edge of anything.
    inked = np.array(edges) > 40
    inked[[0, -1]] = False
    inked[:, [0, -1]] = False
    pixels = np.array(ImageOps.posterize(image, 2))
    pixels[inked] = 0
    return Image.fromarray(pixels)


def _night(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """A fifth of the light, bluish, with the noise of a sensor."""
    pixels = _fractions(image) * np.array([0.2, 0.22, 0.3], dtype=np.float32)
    return _image(pixels + rng.normal(0, 0.02, pixels.shape))


LOOKS: dict[str, Change] = {"fog": _fog, "watercolour": _watercolour, "comic": _comic, "night": _night}
