"""From any Pillow mode to upright RGB bytes, without losing what the picture shows.

Owns colour and orientation. Knows neither files nor limits. Plain `convert("RGB")` is wrong in three ways
that matter to a
model: it drops alpha and so shows the colours hidden below it, it clips 16-bit grey to white, and it
ignores EXIF.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable

import numpy as np
import PIL.Image

from foveate.errors import MediaError

_LOG = logging.getLogger(__name__)
_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC = 274, 258, 262  # EXIF and TIFF tag numbers
_WHITE_IS_ZERO = 0
Pixels = np.ndarray

# EXIF 2.32, tag Orientation: how the stored array must be turned to stand upright.
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda rgb: rgb,
    2: lambda rgb: rgb[:, ::-1],
    3: lambda rgb: rgb[::-1, ::-1],
    4: lambda rgb: rgb[::-1],
    5: lambda rgb: rgb.transpose(1, 0, 2),
    6: lambda rgb: rgb.transpose(1, 0, 2)[:, ::-1],
    7: lambda rgb: rgb[::-1, ::-1].transpose(1, 0, 2),
    8: lambda rgb: rgb.transpose(1, 0, 2)[::-1],
}


def upright_rgb(picture: PIL.Image.Image, name: str) -> Pixels:
    """Pixels of a loaded picture as [height, width, 3] uint8, contiguous, upright; it is not changed.

    Transparent parts are laid on white: pages, charts and logos are drawn for white paper, and their hidden
    colour is mostly black, so dropping alpha would turn black text on nothing into black on black. CMYK and
    other colour models are converted by formula; embedded colour profiles are not applied, as in the
    training data of the models served here.

    Raises:
        MediaError: a mode without a fixed range (32-bit float, integers outside 16 bits) or one Pillow
            cannot convert.
    """
    if picture.mode == "F":
        raise _no_range(name, "32-bit float samples")
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        rgb = _from_wide_grey(picture, name)
    else:
        try:
            rgb = np.array(_to_rgb(picture))
        except ValueError as error:
            raise MediaError(
                f"{name} has the colour mode {picture.mode}",
                why=str(error),
                fix="Save it as RGB PNG or JPEG.",
            ) from error
    return np.ascontiguousarray(_UPRIGHT[orientation(picture)](rgb))


def orientation(picture: PIL.Image.Image) -> int:
    """EXIF orientation, 1 to 8. Damaged EXIF reads as 1, logged: the pixels themselves are fine."""
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except (SyntaxError, ValueError, KeyError, TypeError, IndexError, OSError, struct.error) as error:
        _LOG.warning(
            "EXIF of %s is damaged (%s); shown as stored", getattr(picture, "filename", "image"), error
        )
        return 1
    return value if isinstance(value, int) and value in _UPRIGHT else 1


def _to_rgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    if picture.mode == "La":
        picture = picture.convert("LA")  # the only way out of premultiplied grey
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    paper = PIL.Image.new("RGBA", layer.size, (255, 255, 255, 255))
    return PIL.Image.alpha_composite(paper, layer).convert("RGB")


def _from_wide_grey(picture: PIL.Image.Image, name: str) -> Pixels:
    """Grey of up to 16 bits, scaled from its full range to 0..255 and rounded.

    Mode "I" holds 32-bit integers, but is how Pillow long held 16-bit grey, so it is read as such.
    """
    tags = getattr(picture, "tag_v2", {})  # TIFF only
    grey = np.asarray(picture)
    if picture.mode == "I" and (grey.min() < 0 or grey.max() > 65535):
        raise _no_range(name, f"32-bit integers from {grey.min():,} to {grey.max():,}")
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0] if picture.mode == "I;16" else 16
    full = 2**bits - 1 if 8 < bits < 16 else 65535
    grey = grey.astype(np.uint32)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = full - grey
    scaled = ((grey * 255 + full // 2) // full).astype(np.uint8)
    key = picture.info.get("transparency")
    if isinstance(key, int):
        scaled[grey == key] = 255
    return np.repeat(scaled[:, :, None], 3, axis=2)


def _no_range(name: str, samples: str) -> MediaError:
    return MediaError(
        f"{name} has {samples}",
        why="which value is white is not stated, and Foveate does not guess",
        fix="Scale it to 8-bit or 16-bit grey, or RGB, first.",
    )
