"""When each frame of a video is shown, from its packets alone, and which frames to keep.

Owns the scan that reads packet times without decoding, and uniform sampling. Knows nothing of pixels.
Container headers lie about duration and frame count, or are silent; the packets do not, and reading them
costs about as much as reading the file.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from foveate.errors import MediaError
from foveate.media.limits import MediaLimits

_LOG = logging.getLogger(__name__)
_SHORTEN = "Cut the video"
_SLACK = 5e-7  # seconds: 0.3 s written as 3 ticks of 0.1 s is 0.30000000000000004


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The frames of one video stream in the order in which they are shown.

    Attributes:
        ticks: [N] int64, ascending: when each frame starts, in units of `tick` seconds.
        keyframes: indices into `ticks` at which decoding can start, ascending.
        exact: decoded frames carry these ticks. Otherwise (AVI with B-frames, joined files) frames are matched
            by counting.
        tick: seconds per tick.
    """

    ticks: np.ndarray
    keyframes: np.ndarray
    exact: bool
    tick: float

    @property
    def seconds(self) -> np.ndarray:
        """[N] float64: start of each frame after the first one, which is at 0."""
        return (self.ticks - self.ticks[0]) * self.tick

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last, taken to last as long as the median frame."""
        seconds = self.seconds
        return float(seconds[-1] + np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0

    def keyframe_before(self, index: int) -> int:
        """The last frame at or before `index` at which decoding can start; 0 if none is marked."""
        place = int(np.searchsorted(self.keyframes, index, side="right")) - 1
        return int(self.keyframes[place]) if place >= 0 else 0


def check_claims(container: Any, stream: Any, name: str, limits: MediaLimits) -> None:
    """Refuse what the container itself says is too large, before reading any packet."""
    width, height = stream.codec_context.width, stream.codec_context.height
    limits.require_size(name, width, height, what="video")
    limits.require(name, "max_video_frames", stream.frames or 0, fix=_SHORTEN)
    seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    if container.duration:
        seconds = max(seconds, container.duration / 1e6)  # AV_TIME_BASE: microseconds
    limits.require(name, "max_video_seconds", seconds, fix=_SHORTEN)


def scan(container: Any, stream: Any, name: str, limits: MediaLimits) -> Timeline:
    """Read every packet of `stream` without decoding; stop at the first limit passed, whatever headers said.

    Raises:
        MediaError: a limit is passed, or there are no frames.
    """
    shown: list[int | None] = []
    decoded: list[int | None] = []
    keys: list[bool] = []
    tick = float(stream.time_base)
    first = last = None
    for packet in pulled(container.demux(stream), name):
        if (
            packet.size == 0 or packet.is_discard
        ):  # the end mark, "same as before" in AVI, cut by an edit list
            continue
        shown.append(packet.pts)
        decoded.append(packet.dts)
        keys.append(packet.is_keyframe)
        limits.require(name, "max_video_frames", len(shown), fix=_SHORTEN)
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None:
            first = time if first is None else min(first, time)
            last = time if last is None else max(last, time)
            limits.require(name, "max_video_seconds", (last - first) * tick, fix=_SHORTEN)
    if not shown:
        raise MediaError(
            f"{name} has no frames", why="its video stream holds no packets", fix="Save or download it again."
        )
    if container.format.name == "avi" and stream.codec_context.has_b_frames:
        # AVI stores no presentation times; those the demuxer makes up are in decoding order, wrong for B-frames.
        shown = [None] * len(shown)
    known = [time for time in decoded if time is not None]
    if any(later < earlier for earlier, later in itertools.pairwise(known)):
        # Files joined end to end. By time, everything after the join would be lost.
        _LOG.warning("%s: its times run backwards, so its frames are taken as evenly spaced", name)
        shown = decoded = [None] * len(shown)
    elif None not in shown and 2 * len(set(shown)) < len(shown):
        # Fields of interlaced video share a time two by two. More than that, and a frame would stand for many.
        _LOG.warning(
            "%s: %d frames have %d times, so they are taken as evenly spaced",
            name,
            len(shown),
            len(set(shown)),
        )
        shown = decoded = [None] * len(shown)
    return _ordered(shown, decoded, keys, tick, stream)


def pulled(items: Iterable[Any], name: str) -> Iterator[Any]:
    """The same packets or frames; PyAV's IndexError for a stream that appears halfway becomes a `MediaError`."""
    iterator = iter(items)
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except IndexError as error:
            raise MediaError(
                f"{name} changes its streams on the way",
                why="one appears that its start does not name",
                fix="Convert it to MP4.",
            ) from error
        yield item


def _ordered(
    shown: list[int | None], decoded: list[int | None], keys: list[bool], tick: float, stream: Any
) -> Timeline:
    if None not in shown:
        ticks, where = np.unique(np.array(shown, dtype=np.int64), return_index=True)
        return Timeline(ticks=ticks, keyframes=np.flatnonzero(np.array(keys)[where]), exact=True, tick=tick)
    if None in decoded or len(set(decoded)) < len(decoded):  # no usable times at all: evenly spaced
        rate = float(stream.average_rate or 25)
        ticks, tick = np.arange(len(shown), dtype=np.int64), 1 / rate
    else:
        ticks = np.sort(np.array(decoded, dtype=np.int64))
    return Timeline(ticks=ticks, keyframes=np.flatnonzero(keys), exact=False, tick=tick)


def choose(seconds: np.ndarray, frames_per_second: float | None, max_frames: int) -> np.ndarray:
    """Indices of the frames to keep, ascending and unique.

    Args:
        seconds: [N] start of each frame, ascending from 0.
    """
    return _on_screen(seconds, asked_moments(seconds, frames_per_second, max_frames))


def asked_moments(seconds: np.ndarray, frames_per_second: float | None, max_frames: int) -> np.ndarray:
    """[M] seconds at which the video is looked at, ascending.

    At most `frames_per_second` (every frame for None): each multiple of 1/rate. Where that gives more than
    `max_frames` frames, that many moments spread evenly from the first frame to the last instead.

    Args:
        seconds: [N] start of each frame, ascending from 0.
    """
    if frames_per_second is None:
        moments = seconds
    else:
        count = int(np.floor(seconds[-1] * frames_per_second + 1e-6)) + 1
        # A rate far above the video's own gives each frame many times; do not build a list of that length.
        moments = seconds if count > 4 * len(seconds) else np.arange(count) / frames_per_second
    if len(_on_screen(seconds, moments)) > max_frames:
        moments = np.linspace(0.0, seconds[-1], max_frames)
    return moments


def moments_of(timestamps: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """[T] the first moment asked for at which each kept frame is on screen; its own time where none was."""
    places = np.searchsorted(asked, timestamps - _SLACK)
    late = places == len(asked)
    return np.where(late, timestamps, asked[np.minimum(places, len(asked) - 1)])


def _on_screen(seconds: np.ndarray, moments: np.ndarray) -> np.ndarray:
    return np.unique(np.searchsorted(seconds, moments + _SLACK, side="right") - 1)
