"""Caps on what may be opened, and the checks that enforce them before anything is decoded.

Owns the numbers, their reasons and the wording of a broken limit. Knows nothing about file formats: callers
read sizes from `stat`, from headers or from container metadata and ask here. A file of a few kilobytes can
claim gigabytes of pixels, so each check must run on the *claimed* number, and again on the real one where
claims can lie.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from foveate.errors import MediaError


def _cap(default: int | float, unit: str, why: str) -> Any:
    """A limit field with its unit and its reason, from which the table in docs/media.md is printed."""
    return field(default=default, metadata={"unit": unit, "why": why})


@dataclass(frozen=True, kw_only=True)
class MediaLimits:
    """What one image or video may cost. Every number must be positive; `MediaError` otherwise.

    Raise a cap for one call with `MediaLimits(max_pixels=...)`; there is no way to switch the checks off.
    """

    max_bytes: int = _cap(
        64 * 2**20,
        "bytes",
        "an encoded image; a 50-megapixel phone photo is 10 to 25 MB, a lossless scan 60 MB",
    )
    max_pixels: int = _cap(
        8192 * 8192,
        "pixels",
        "one image or one video frame; decodes to 201 MB of RGB, and fits a 50-megapixel photo",
    )
    max_side: int = _cap(
        32_768,
        "pixels",
        "width or height; a strip one pixel high passes the pixel cap but breaks every patch grid",
    )
    max_video_bytes: int = _cap(2 * 2**30, "bytes", "an encoded video; about an hour of 1080p at 5 Mbit/s")
    max_video_seconds: float = _cap(3600.0, "seconds", "duration, as claimed and as found in the packets")
    max_video_frames: int = _cap(
        250_000,
        "frames",
        "in the file, whether kept or not: an hour at 60 frames/s, since skipping still decodes some",
    )
    max_frames: int = _cap(768, "frames", "kept from one video; the most that Qwen2-VL's own sampling keeps")
    max_video_pixels: int = _cap(
        8 * 8192 * 8192, "pixels", "kept frames × width × height; 1.6 GB of RGB, or 64 frames of 4K video"
    )

    def __post_init__(self) -> None:
        for limit in dataclasses.fields(self):
            value = getattr(self, limit.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise MediaError(
                    f"MediaLimits.{limit.name} is {value!r}",
                    why="a limit is a number above zero",
                    fix=f"The default is {limit.default:,} {limit.metadata['unit']}.",
                )

    def require(self, name: str, limit: str, found: int | float, *, fix: str) -> None:
        """Raise `MediaError` if `found` is above the cap called `limit`.

        Args:
            name: short name of the file or source, for the message.
            limit: field name of this class.
            found: the size claimed by the file, or counted so far; in the field's unit.
            fix: next step for the user; how to raise the cap is added.
        """
        allowed = getattr(self, limit)
        if found <= allowed:
            return
        unit = next(entry.metadata["unit"] for entry in dataclasses.fields(self) if entry.name == limit)
        raise MediaError(
            f"{name} is above a limit",
            why=f"{_number(found)} {unit}, and {limit} is {_number(allowed)}",
            fix=f"{fix}, or raise MediaLimits({limit}=...) if you trust the file.",
        )

    def require_size(self, name: str, width: int, height: int, *, what: str = "image") -> None:
        """Check a claimed pixel size of `width` by `height` before any pixel is decoded."""
        if width < 1 or height < 1:
            raise MediaError(
                f"{name} has no pixels", why=f"its header says {width}x{height}", fix="Save the file again."
            )
        described = f"{name} ({width}x{height})"
        self.require(described, "max_side", max(width, height), fix=f"Crop or resize the {what}")
        self.require(described, "max_pixels", width * height, fix=f"Resize the {what}")


def limits_table() -> str:
    """The table of limits in Markdown, as it stands in docs/media.md."""
    rows = ["| Limit | Default | Why |", "|---|---|---|"]
    for limit in dataclasses.fields(MediaLimits):
        assert isinstance(limit.default, (int, float))
        amount = f"{_number(limit.default)} {limit.metadata['unit']}"
        rows.append(f"| `{limit.name}` | {amount} | {limit.metadata['why']} |")
    return "\n".join(rows)


def _number(value: int | float) -> str:
    """A count with thousands separators; seconds keep one digit where they have one."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}".removesuffix(".0")
