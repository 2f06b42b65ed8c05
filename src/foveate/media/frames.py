"""The frames of a video with their times: what a file, a camera or a program that draws them comes to.

Owns `Video` and its digest. Knows no files and no codecs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from foveate.errors import MediaError
from foveate.media.digest import digest_media


@dataclass(frozen=True)
class Video:
    """Sampled frames of one video. Two are equal when frames, times and moments are.

    Attributes:
        frames: [T, height, width, 3] uint8, contiguous, upright, read-only.
        timestamps: [T] float64, seconds after the first frame of the file, ascending: when each frame comes up.
        moments: [T] float64, seconds for which each frame was asked, the first where it stands for several: when it
            is looked at. Multiples of the sampling's interval, whatever the file's own rate.
        digest: SHA-256 of frames, timestamps and moments in hex.
        source: short name for messages.
        duration: seconds of the whole video, not only of the kept frames.
        total_frames: frames in the file, of which T were kept.
    """

    frames: np.ndarray = field(compare=False)
    timestamps: np.ndarray = field(compare=False)
    moments: np.ndarray = field(compare=False)
    digest: str
    source: str = field(compare=False)
    duration: float = field(compare=False)
    total_frames: int = field(compare=False)

    @property
    def width(self) -> int:
        return int(self.frames.shape[2])

    @property
    def height(self) -> int:
        return int(self.frames.shape[1])

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        return (
            f"Video({len(self)} of {self.total_frames} frames, {self.width}x{self.height}, "
            f"{self.duration:.2f} s, digest={self.digest[:12]}…, source={self.source!r})"
        )


def video_of(frames: np.ndarray, timestamps: Sequence[float], *, source: str = "frames") -> Video:
    """A video of frames that are decoded already; they are copied.

    Args:
        frames: [T, height, width, 3] uint8.
        timestamps: [T] seconds, ascending; counted from the first.

    Raises:
        MediaError: other shapes, or times that do not ascend.
    """
    times = np.array(timestamps, dtype=np.float64)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise MediaError(
            f"{source} has frames of shape {frames.shape} and type {frames.dtype}",
            why="a video is [frames, height, width, 3] of uint8",
        )
    if times.shape != (len(frames),) or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise MediaError(
            f"The times of {source} do not tell its frames apart",
            why=f"{len(frames)} frames need as many finite seconds, each above the one before",
            fix="Give the time of each frame in order.",
        )
    times -= times[0]
    duration = float(times[-1] + np.median(np.diff(times))) if len(times) > 1 else 0.0
    return finished(np.array(frames, order="C"), times, times.copy(), source, duration, len(frames))


def finished(
    frames: np.ndarray, timestamps: np.ndarray, moments: np.ndarray, name: str, duration: float, total: int
) -> Video:
    """The record of frames that nobody else writes to."""
    count, height, width, _ = frames.shape
    settings = {"kind": "rgb8 video", "frames": count, "width": width, "height": height}
    digest = digest_media([frames, timestamps.astype("<f8"), moments.astype("<f8")], settings)
    for array in (frames, timestamps, moments):
        array.flags.writeable = False
    return Video(frames, timestamps, moments, digest, name, duration, total)
