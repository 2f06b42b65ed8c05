"""Frames of a video as they come: a file, a camera or an address, one frame in memory at a time.

Owns opening without a scan, and times that can be relied on: every frame has one, and they rise. What was mended or
left out is counted. `video.py` reads whole clips. Knows no models. PyAV is imported on the first call only.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foveate.errors import MediaError
from foveate.media.limits import MediaLimits
from foveate.media.sources import locate
from foveate.media.timeline import pulled
from foveate.media.video import check_file, opened_file, pyav, upright

_DEFAULT_LIMITS = MediaLimits()
_ADDRESSES = ("rtsp://", "rtsps://")
_CAMERA = "camera"
_WRONG_JUMP = 60.0  # seconds between two frames, in either direction, that only a broken clock makes
_HOPELESS = 100  # packets in a row that give no picture


@dataclass(frozen=True)
class LiveFrame:
    """One frame, not yet converted: who drops it pays nothing."""

    seconds: float
    _frame: Any
    _name: str

    def pixels(self) -> np.ndarray:
        """[height, width, 3] uint8, upright."""
        return upright(self._frame, self._name)


@dataclass
class LiveVideo:
    """An open stream.

    Attributes:
        name: for messages; width, height: pixels of a frame, upright.
        live: whether it comes at its own pace, whoever reads.
        mended: frames by what was wrong: "damaged" (left out), "untimed" (placed behind the frame before),
            "retimed" (their time ran back or jumped by more than a minute; time goes on behind the frame before).
    """

    name: str
    width: int
    height: int
    live: bool
    _container: Any
    _stream: Any
    _error: type[Exception]
    mended: Counter[str] = field(default_factory=Counter)

    def frames(self) -> Iterator[LiveFrame]:
        """All of them, with times in seconds that rise from 0.

        Raises:
            MediaError: nothing in it can be decoded, or it stalls or breaks off.
        """
        step = 1.0 / float(self._stream.average_rate or 25)
        last, offset = None, 0.0
        for frame in self._decoded():
            own = None if frame.pts is None else float(frame.pts * self._stream.time_base)
            if last is None:
                offset = 0.0 if own is None else -own
            seconds = step + last if own is None and last is not None else (own or 0.0) + offset
            if own is None:
                self.mended["untimed"] += 1
            elif last is not None and not last < seconds < last + _WRONG_JUMP:
                self.mended["retimed"] += 1
                offset += last + step - seconds
                seconds = last + step
            last = max(seconds, 0.0)
            yield LiveFrame(last, frame, self.name)

    def _decoded(self) -> Iterator[Any]:
        """Pictures of all packets that give one; a packet that does not is counted and left out."""
        bad, found = 0, False
        for packet in self._packets():
            try:
                pictures = packet.decode()
            except self._error as error:
                self.mended["damaged"] += 1
                bad += 1
                if bad >= _HOPELESS:
                    raise self._broken(f"{bad} packets in a row: {_reason(error)}") from error
                continue
            for frame in pictures:
                if frame.is_corrupt:
                    self.mended["damaged"] += 1
                    continue
                bad, found = 0, True
                yield frame
        if not found:
            raise self._broken("none of its frames can be decoded")

    def _packets(self) -> Iterator[Any]:
        try:
            yield from pulled(self._container.demux(self._stream), self.name)
        except self._error as error:
            if self.live:
                raise MediaError(
                    f"{self.name} has stalled",
                    why=_reason(error),
                    fix="Check the camera or address and start again.",
                ) from error
            raise self._broken(_reason(error)) from error

    def _broken(self, why: str) -> MediaError:
        return MediaError(
            f"{self.name} is damaged", why=why, fix="Convert it to H.264 in MP4, or save it again."
        )


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


@contextmanager
def open_live(
    source: str | os.PathLike[str], *, limits: MediaLimits = _DEFAULT_LIMITS, stall_seconds: float = 10.0
) -> Iterator[LiveVideo]:
    """A stream of frames, closed when the block ends.

    Args:
        source: a file; "camera" or "camera:1"; or an rtsp:// address.
        limits: of a frame's size, and of a file's bytes. A stream may be as long as it likes.
        stall_seconds: how long a camera or an address may be silent.

    Raises:
        MediaError: no such file or camera, no video, an unknown codec, or a file shorter than it says.
        MissingExtraError: PyAV is not installed.
    """
    av, text = pyav(), os.fspath(source)
    if text.startswith(_ADDRESSES) or text.partition(":")[0] == _CAMERA:
        with _live_container(av, text, stall_seconds) as container:
            yield _video(av, container, _shown(text), limits, live=True)
        return
    encoded = locate(source, limits, cap="max_video_bytes", kind="video")
    with encoded.open() as file:
        check_file(file, encoded)
        with opened_file(av, file, encoded.name, limits) as (container, _):
            yield _video(av, container, encoded.name, limits, live=False)


def _live_container(av: Any, text: str, stall_seconds: float) -> AbstractContextManager[Any]:
    wait = {"timeout": (stall_seconds, stall_seconds)}
    try:
        if text.startswith(_ADDRESSES):
            return av.open(text, options={"rtsp_transport": "tcp"}, **wait)
        number = text.partition(":")[2] or "0"
        if not number.isdigit():
            raise MediaError(
                f"There is no camera {text!r}", why="cameras have numbers", fix="Write camera:0."
            )
        return av.open(f"/dev/video{number}", format="v4l2", **wait)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{_shown(text)} cannot be opened",
            why=_reason(error),
            fix="Check that the camera or address is there.",
        ) from error


def _shown(text: str) -> str:
    """An address for messages: without the password and the query, which may be secret."""
    scheme, mark, rest = text.partition("?")[0].rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"


def _video(av: Any, container: Any, name: str, limits: MediaLimits, *, live: bool) -> LiveVideo:
    if not container.streams.video:
        raise MediaError(f"{name} has no video stream", fix="Give another source.")
    stream = container.streams.video[0]
    codec = stream.codec_context
    if codec is None:
        raise MediaError(f"{name} has an unknown video codec", fix="Convert it to H.264 in MP4.")
    limits.require_size(name, codec.width, codec.height, what="video")
    return LiveVideo(name, codec.width, codec.height, live, container, stream, av.FFmpegError)
