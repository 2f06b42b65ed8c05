"""Judging fetched bytes by what they are, not by what anybody calls them.

Owns the check of kind and claimed size. Knows nothing of where the bytes came from.
"""

from __future__ import annotations

from typing import Literal

from foveate.errors import MediaError
from foveate.media import formats, image_size
from foveate.serve.safety.policy import MediaPolicy, MediaRefused

Kind = Literal["image", "video"]
HEAD = 512  # bytes that tell what a file is


def byte_cap(policy: MediaPolicy, kind: Kind) -> int:
    """The most bytes that one such item may have."""
    return policy.max_bytes if kind == "image" else policy.max_video_bytes


def too_large(shown: str, cap: int, *, at_least: int) -> MediaRefused:
    """The refusal of bytes above the cap."""
    return MediaRefused(
        f"{shown} is too large",
        reason="too_large",
        why=f"{at_least:,} bytes or more, and {cap:,} are allowed",
        fix="Send a smaller file.",
    )


def require_kind(head: bytes, kind: Kind, shown: str) -> None:
    """Refuse what does not start like an image (or video) that opens here; a declared type counts for nothing."""
    found = formats.identify(head[:HEAD])
    is_video = found == "GIF" or (found is not None and "video" in found)
    if not (found in formats.IMAGES if kind == "image" else is_video):
        raise MediaRefused(
            f"{shown} is not {'an image' if kind == 'image' else 'a video'} that opens here",
            reason="type",
            why=f"its content looks like: {found}" if found else "its content is of no known kind",
            fix=formats.advice(found) if kind == "image" else "Give an MP4, WebM, MKV, AVI or GIF file.",
        )


def require_content(data: bytes, kind: Kind, policy: MediaPolicy, shown: str) -> None:
    """Refuse another kind of file, and images whose header claims more pixels than allowed; nothing is decoded.

    The sizes of videos are checked when they are opened with `policy.limits`, frame by frame.
    """
    require_kind(data, kind, shown)
    if kind == "video":
        return
    try:
        image_size(data, limits=policy.limits)
    except MediaError as error:
        over = "above a limit" in error.what
        raise MediaRefused(
            f"{shown} is {'too large' if over else 'damaged'}",
            reason="too_large" if over else "type",
            why=error.why,
            fix="Send a smaller picture." if over else "Save or download the file again.",
        ) from error
