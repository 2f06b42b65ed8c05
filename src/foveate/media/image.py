"""Opening one image: from a path, bytes, a data: URI, a PIL image or an array to checked, upright RGB.

Owns `Image`, `open_image` and `image_size`: the order of checks (bytes, kind, pixel size from the header alone, then
decoding) and the words for broken files. Knows no models. Colour is in pixels.py, limits in limits.py.
"""

from __future__ import annotations

import io
import logging
import os
import struct
import zlib
from dataclasses import dataclass, field

import numpy as np
import PIL.Image
from PIL import ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import jpeg_factory
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from foveate.errors import MediaError
from foveate.media import formats, png
from foveate.media.digest import digest_media
from foveate.media.limits import MediaLimits
from foveate.media.pixels import upright_rgb
from foveate.media.sources import locate, short_name

_LOG = logging.getLogger(__name__)

# One constructor a format. PIL.Image.open would also try dozens of rarely used decoders, one of which starts
# Ghostscript, and has its own pixel limit, which ours replaces.
_READERS = {
    "PNG": PngImageFile,
    "JPEG": jpeg_factory,  # also the several-picture MPO of phones; the first picture counts
    "WebP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
}
# What Pillow raises on damaged files, found by fuzzing every format; anything else is a bug worth a
# traceback.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    PIL.Image.DecompressionBombError,
)
ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | PIL.Image.Image | np.ndarray
_DEFAULT_LIMITS = MediaLimits()


@dataclass(frozen=True)
class Image:
    """One decoded image. Two are equal when their pixels are.

    Attributes:
        rgb: [height, width, 3] uint8, contiguous, upright, read-only (so that the digest stays true; copy
            to change it).
        digest: SHA-256 of size and pixels in hex: the same picture has the same digest from any route, so
            that a PNG, its data: URI and its PIL image share cache entries.
        source: short name for messages, never the data itself.
    """

    rgb: np.ndarray = field(compare=False)
    digest: str
    source: str = field(compare=False)

    def __post_init__(self) -> None:
        assert self.rgb.dtype == np.uint8 and self.rgb.ndim == 3 and self.rgb.shape[2] == 3
        assert self.rgb.flags.c_contiguous

    @property
    def width(self) -> int:
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        return int(self.rgb.shape[0])

    def pil(self) -> PIL.Image.Image:
        """A PIL image of mode RGB; changing it does not change this image."""
        return PIL.Image.fromarray(self.rgb)

    def __repr__(self) -> str:
        return f"Image({self.width}x{self.height}, digest={self.digest[:12]}…, source={self.source!r})"


def open_image(source: ImageSource | Image, *, limits: MediaLimits = _DEFAULT_LIMITS) -> Image:
    """Open one image and return it upright in RGB.

    Args:
        source: path (`~` is expanded), encoded bytes, data: URI, PIL image, uint8 array [height, width, 3],
            or an `Image`, which is checked against the limits and returned as it is.
        limits: caps, enforced before decoding.

    Returns:
        The image; of several frames or pages, the first. Transparency lies on white, EXIF orientation is
        applied.

    Raises:
        MediaError: no such file, not an image, damaged, or above a limit; the message names the file and
            the numbers.
    """
    if isinstance(source, Image):
        limits.require_size(source.source, source.width, source.height)
        return source
    if isinstance(source, PIL.Image.Image):
        name = short_name(str(getattr(source, "filename", "") or f"PIL image {source.mode}"))
        limits.require_size(name, *source.size)
        return _finish(_load(source, name), name)
    if isinstance(source, np.ndarray):
        return _finish(_checked_array(source, limits), "array")
    encoded = locate(source, limits, cap="max_bytes", kind="image")
    return _finish(_decode(encoded.read(), encoded.name, limits), encoded.name)


def _finish(rgb: np.ndarray, name: str) -> Image:
    rgb.flags.writeable = False
    height, width, _ = rgb.shape
    return Image(rgb, digest_media(rgb, {"kind": "rgb8", "width": width, "height": height}), name)


def image_size(data: bytes, *, limits: MediaLimits = _DEFAULT_LIMITS) -> tuple[int, int]:
    """Width and height that an encoded image's header claims, before any rotation; no pixel is decoded.

    Raises:
        MediaError: not an image, a header that cannot be read, or above a limit.
    """
    encoded = locate(data, limits, cap="max_bytes", kind="image")
    _, header = _header(data, encoded.name, limits)
    return header.size


def _header(data: bytes, name: str, limits: MediaLimits) -> tuple[str, PIL.Image.Image]:
    """The kind of file, and what its reader makes of the header; the claimed size is within the limits."""
    kind = formats.identify(data[:512])
    if kind not in _READERS:
        looks = f"its content looks like: {kind}" if kind else "its content is no known image format"
        raise MediaError(f"{name} is not an image that opens here", why=looks, fix=formats.advice(kind))
    if kind == "WebP":  # its constructor allocates the whole canvas, the others read headers only
        size = _webp_size(data)
        if size is not None:
            limits.require_size(name, *size)
    try:
        header = _READERS[kind](io.BytesIO(data))
    except _BROKEN as error:
        raise _damaged(name, kind, error, "its header cannot be read") from error
    limits.require_size(name, *header.size)
    return kind, header


def _decode(data: bytes, name: str, limits: MediaLimits) -> np.ndarray:
    """Encoded bytes to RGB [height, width, 3] uint8."""
    kind, header = _header(data, name, limits)
    if isinstance(header, PngImageFile):
        png.repair_transparency(header, data)
    rgb = _load(header, name)
    if kind == "PNG":
        _require_all_rows(data, name)
    return rgb


def _load(picture: PIL.Image.Image, name: str) -> np.ndarray:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        _warn_truncation_allowed()
    if isinstance(picture, TiffImageFile) and picture.tile:
        _require_all_strips(picture, name)
    try:
        picture.load()
        return upright_rgb(picture, name)
    except _BROKEN as error:
        raise _damaged(name, picture.format or "PIL", error, "its pixels cannot be decoded") from error


def _require_all_strips(picture: TiffImageFile, name: str) -> None:
    """Pillow leaves black, without a word, what no strip or tile of a TIFF covers."""
    right, bottom = (max(entry.extents[side] for entry in picture.tile if entry.extents) for side in (2, 3))
    width, height = (
        int(picture.tag_v2[256]),
        int(picture.tag_v2[257]),
    )  # as stored; picture.size is turned upright
    if right < width or bottom < height:
        raise MediaError(
            f"{name} is damaged",
            why=f"its header says {width}x{height} and its strips hold {right}x{bottom}",
            fix="Save or download the file again.",
        )


def _require_all_rows(data: bytes, name: str) -> None:
    try:
        missing = png.missing_bytes(data)
    except zlib.error as error:
        raise _damaged(name, "PNG", error, "its pixels cannot be decoded") from error
    if missing:
        raise MediaError(
            f"{name} is damaged",
            why=f"the PNG lacks {missing:,} bytes of pixels that its header promises",
            fix="Save or download the file again.",
        )


def _checked_array(array: np.ndarray, limits: MediaLimits) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise MediaError(
            "cannot open the array as an image",
            why=f"it is {array.dtype} of shape {array.shape}",
            fix="Give uint8 of shape (height, width, 3), red first, or make a PIL image of it.",
        )
    limits.require_size("array", array.shape[1], array.shape[0])
    return np.array(array, order="C")


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Canvas width and height from the first chunk of a WebP file (RFC 9649), or None without one."""
    chunk, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if chunk == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return None


def _damaged(name: str, kind: str, error: BaseException, what: str) -> MediaError:
    """The error for a file that starts like an image and goes wrong; Pillow's own words in one line."""
    detail = " ".join(str(error).split())[:160] or type(error).__name__
    return MediaError(
        f"{name} is truncated or damaged",
        why=f"{what} as {kind} ({detail})",
        fix="Save or download the file again.",
    )


_warned: set[str] = set()


def _warn_truncation_allowed() -> None:
    if "truncated" not in _warned:
        _warned.add("truncated")
        _LOG.warning(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on in this process: cut files open with rows missing"
        )
