"""Reading frames of a video file at a requested rate, within limits.

Owns `read_video`: opening through PyAV, seeking, rotation and damage. Knows no models. Which frames are kept is
decided in timeline.py from packet times, before any frame is decoded. PyAV is imported on the first call only.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO

import numpy as np

from foveate.errors import MediaError, MissingExtraError
from foveate.media import formats
from foveate.media.containers import declared_size
from foveate.media.frames import Video, finished
from foveate.media.limits import MediaLimits
from foveate.media.sources import Encoded, locate
from foveate.media.timeline import Timeline, asked_moments, check_claims, choose, moments_of, pulled, scan

_LOG = logging.getLogger(__name__)
_DEFAULT_LIMITS = MediaLimits()
# Self-contained containers only. Playlists (HLS, DASH, concat) would make the demuxer open other files and
# addresses.
_DEMUXERS = "mov,matroska,webm,avi,mpegts,mpeg,flv,asf,gif"
# Decoding fewer frames than this is cheaper than a seek, which flushes the decoder.
_SEEK_WORTH = 16
VideoSource = str | os.PathLike[str] | bytes | bytearray | memoryview
Opener = Callable[[], AbstractContextManager[tuple[Any, Any]]]


class _SeekMissedError(Exception):
    """A seek landed after the frame that it was for: the index of the file is wrong."""


def read_video(
    source: VideoSource,
    *,
    limits: MediaLimits = _DEFAULT_LIMITS,
    frames_per_second: float | None = 2.0,
    max_frames: int = 64,
) -> Video:
    """Read frames of a video at a rate, as RGB, turned upright.

    Args:
        source: path (`~` is expanded), encoded bytes, or a data: URI.
        limits: caps on bytes, pixels, frames and seconds, enforced before decoding and again on what is
            found.
        frames_per_second: the frame on screen at each multiple of 1/rate; None for every frame. The
            default, 2, is what Qwen2-VL was trained with (arXiv 2409.12191).
        max_frames: where the rate gives more, this many spread evenly over the whole video.

    Raises:
        MediaError: not a video, truncated, without frames, or above a limit.
        MissingExtraError: PyAV is not installed.
    """
    _check_request(frames_per_second, max_frames, limits)
    encoded = locate(source, limits, cap="max_video_bytes", kind="video")
    av = pyav()
    with encoded.open() as file:
        check_file(file, encoded)

        def opened() -> AbstractContextManager[tuple[Any, Any]]:
            return opened_file(av, file, encoded.name, limits)

        try:
            with opened() as (container, stream):
                check_claims(container, stream, encoded.name, limits)
                timeline = scan(container, stream, encoded.name, limits)
                pixels = stream.codec_context.width * stream.codec_context.height
            asked = asked_moments(timeline.seconds, frames_per_second, max_frames)
            chosen = choose(timeline.seconds, frames_per_second, max_frames)
            fewer = f"Pass max_frames={max(1, limits.max_video_pixels // pixels)} or a lower rate"
            limits.require(encoded.name, "max_video_pixels", len(chosen) * pixels, fix=fewer)
            frames, timestamps = _collect(opened, timeline, chosen, encoded.name)
        except av.FFmpegError as error:
            raise _damaged(encoded.name, error.strerror or str(error)) from error
    moments = moments_of(timestamps, asked)
    return finished(frames, timestamps, moments, encoded.name, timeline.duration, len(timeline.ticks))


def pyav() -> Any:
    """The package `av`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("av", "video", "reading video") from error
    return av


def _check_request(frames_per_second: float | None, max_frames: int, limits: MediaLimits) -> None:
    if frames_per_second is not None and not (frames_per_second > 0 and math.isfinite(frames_per_second)):
        raise MediaError(
            f"frames_per_second is {frames_per_second!r}",
            why="a rate is a finite number above zero",
            fix="Give a number such as 2.0, or None for every frame.",
        )
    if max_frames < 1:
        raise MediaError(
            f"max_frames is {max_frames}", why="at least one frame is read", fix="Give 1 or more."
        )
    limits.require("the request", "max_frames", max_frames, fix="Ask for fewer frames")


def check_file(file: BinaryIO, encoded: Encoded) -> None:
    """Refuse still images by name, and files shorter than their container says."""
    kind = formats.identify(file.read(512))
    if kind is not None and kind != "GIF" and "video" not in kind:
        fix = (
            "Open it with open_image."
            if kind in formats.IMAGES
            else "Give an MP4, MOV, MKV, WebM or AVI file."
        )
        raise MediaError(f"{encoded.name} is not a video", why=f"its content looks like: {kind}", fix=fix)
    declared = declared_size(file, encoded.size)
    if declared > encoded.size:
        raise _damaged(encoded.name, f"it holds {encoded.size:,} of the {declared:,} bytes that it declares")


@contextmanager
def opened_file(av: Any, file: BinaryIO, name: str, limits: MediaLimits) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream, from the start of the file."""
    file.seek(0)
    largest = {"max_pixels": str(limits.max_pixels)}  # opening already decodes a little, to find the format
    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "none", **largest}
    try:
        container = av.open(file, options=options)
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise MediaError(
            f"{name} cannot be opened as a video",
            why=str(getattr(error, "strerror", None) or error),
            fix="It may be truncated or another kind of file; MP4, MOV, MKV, WebM, AVI and MPEG open here.",
        ) from error
    with container:
        if not container.streams.video:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise MediaError(f"{name} has no video stream", why=f"it holds {kinds}", fix="Give another file.")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise MediaError(f"{name} has an unknown video codec", fix="Convert it to H.264 in MP4.")
        stream.codec_context.options = largest
        stream.thread_type = "AUTO"
        yield container, stream


def _collect(
    opened: Opener, timeline: Timeline, chosen: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Decode the chosen frames: [T, height, width, 3] uint8 and [T] seconds."""
    if not timeline.exact:
        return _stacked(_by_counting(opened, timeline, chosen, name), len(chosen), name)
    try:
        return _stacked(_by_time(opened, timeline, chosen, name, seek=True), len(chosen), name)
    except _SeekMissedError:
        _LOG.warning("%s: its index is wrong, so it is decoded from the start", name)
        return _stacked(_by_time(opened, timeline, chosen, name, seek=False), len(chosen), name)


def _stacked(
    pairs: Iterator[tuple[float, np.ndarray]], count: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Fill one array as frames arrive, so that the peak is the array and one frame."""
    frames, timestamps = np.empty((0, 0, 0, 3), np.uint8), np.empty(count)
    filled = 0
    for seconds, rgb in pairs:
        if filled == 0:
            frames = np.empty((count, *rgb.shape), np.uint8)
        if rgb.shape != frames.shape[1:]:
            sizes = [f"{width}x{height}" for height, width in (frames.shape[1:3], rgb.shape[:2])]
            raise MediaError(
                f"{name} changes its frame size at {seconds:.2f} s",
                why=f"from {sizes[0]} to {sizes[1]}",
                fix="Convert it to one size, or cut it there.",
            )
        frames[filled], timestamps[filled] = rgb, seconds
        filled += 1
    assert filled, "the timeline promised a frame and none was decoded"
    return np.ascontiguousarray(frames[:filled]), timestamps[:filled].copy()


def _by_time(
    opened: Opener, timeline: Timeline, chosen: np.ndarray, name: str, *, seek: bool
) -> Iterator[tuple[float, np.ndarray]]:
    """Decode forward, keep the first frame at or after each wanted time, jump over long other stretches."""
    with opened() as (container, stream):
        decoder = pulled(container.decode(stream), name)
        position, last = -1, None
        for index in chosen:
            wanted = int(timeline.ticks[index])
            if last is not None and last >= wanted:  # its packet gave no picture, and the next one was kept
                continue
            key = timeline.keyframe_before(int(index))
            jumped = seek and key - position > _SEEK_WORTH
            if jumped:
                container.seek(int(timeline.ticks[key]), stream=stream)
                decoder = pulled(container.decode(stream), name)
            for frame in decoder:
                if frame.pts is None:
                    continue
                if jumped and frame.pts > wanted:
                    raise _SeekMissedError
                jumped, last = False, frame.pts
                if last >= wanted:
                    break
            else:
                raise _damaged(name, f"it ends before the frame at {timeline.seconds[index]:.2f} s")
            position = int(np.searchsorted(timeline.ticks, last, side="right")) - 1
            yield (last - int(timeline.ticks[0])) * timeline.tick, upright(frame, name)


def _by_counting(
    opened: Opener, timeline: Timeline, chosen: np.ndarray, name: str
) -> Iterator[tuple[float, np.ndarray]]:
    """For files without presentation times: the n-th decoded frame is the n-th on the timeline."""
    with opened() as (container, stream):
        seconds, wanted = timeline.seconds, set(chosen.tolist())
        found = 0
        for count, frame in enumerate(pulled(container.decode(stream), name)):
            if count in wanted:
                found += 1
                yield float(seconds[count]), upright(frame, name)
            if found == len(wanted):
                return
        raise _damaged(name, f"{len(wanted) - found} of {len(wanted)} frames cannot be decoded")


def upright(frame: Any, name: str) -> np.ndarray:
    """[height, width, 3] uint8, turned as the file's display matrix says."""
    if frame.is_corrupt:
        raise _damaged(name, "a frame is corrupt")
    turns = frame.rotation / 90  # anticlockwise, as numpy turns
    if abs(turns - round(turns)) > 0.02:
        raise MediaError(
            f"{name} is turned by {frame.rotation} degrees",
            why="only right angles are read",
            fix="Re-encode it upright.",
        )
    return np.rot90(frame.to_ndarray(format="rgb24"), round(turns) % 4)


def _damaged(name: str, why: str) -> MediaError:
    return MediaError(f"{name} is truncated or damaged", why=why, fix="Save or download the file again.")
