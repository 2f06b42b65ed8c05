"""Changes of a picture's pixels on the way to the model: a codec and its quality, another size.

Kits for evaluation hide such changes (a JPEG encoder of quality 85 in several adapters of lmms-eval); here each is a
named variant that a run records. Owns the two changes; which of them are tried is in `axes`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image, features

from foveate.evaluate.contract import EvaluationError

FILTERS: dict[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_LIBRARIES = {"png": "zlib", "jpeg": "jpg", "webp": "webp"}  # as Pillow names them


@dataclass(frozen=True, kw_only=True)
class Codec:
    """Written and read back with Pillow's encoder.

    Attributes:
        name: "png", which changes nothing, "jpeg" (colour at half resolution, 4:2:0) or "webp".
        quality: 1 to 100; None for "png".
    """

    name: str
    quality: int | None = None

    def __post_init__(self) -> None:
        if self.name not in _LIBRARIES:
            raise EvaluationError(f"There is no codec {self.name!r}", fix=f"Choose {', '.join(_LIBRARIES)}.")
        if self.name != "png" and (self.quality is None or not 1 <= self.quality <= 100):
            raise EvaluationError(f"A quality of {self.quality} for {self.name}", fix="Choose 1 to 100.")
        if self.name == "png" and self.quality is not None:
            raise EvaluationError("A quality for png", why="it loses nothing", fix="Leave the quality out.")

    def encode(self, image: Image.Image) -> bytes:
        """The file."""
        settings: dict[str, Any] = {} if self.quality is None else {"quality": self.quality}
        if self.name == "jpeg":
            settings["subsampling"] = "4:2:0"
        data = io.BytesIO()
        image.convert("RGB").save(data, format=self.name, **settings)
        return data.getvalue()

    def apply(self, image: Image.Image) -> Image.Image:
        """What is left of the picture."""
        with Image.open(io.BytesIO(self.encode(image))) as decoded:
            return decoded.convert("RGB")

    def describe(self) -> dict[str, Any]:
        """With the library's version: another one may give other pixels."""
        facts: dict[str, Any] = {"codec": self.name}
        if self.quality is not None:
            facts["quality"] = self.quality
        return facts | {"library": str(features.version(_LIBRARIES[self.name]))}


@dataclass(frozen=True, kw_only=True)
class Resize:
    """Another size, both sides by the same factor.

    Attributes:
        factor: above 0; at least one pixel is left.
        filter: a name of `FILTERS`.
    """

    factor: float
    filter: str = "bicubic"

    def __post_init__(self) -> None:
        if not 0 < self.factor <= 8:
            raise EvaluationError(f"A resize by {self.factor}", fix="Choose a factor above 0 and up to 8.")
        if self.filter not in FILTERS:
            raise EvaluationError(f"There is no filter {self.filter!r}", fix=f"Choose {', '.join(FILTERS)}.")

    def apply(self, image: Image.Image) -> Image.Image:
        """The picture at its new size."""
        width, height = (max(1, round(side * self.factor)) for side in image.size)
        return image.convert("RGB").resize((width, height), FILTERS[self.filter])

    def describe(self) -> dict[str, Any]:
        """Factor and filter."""
        return {"resize": self.factor, "filter": self.filter}
