"""When frames are shown: variable rates, times that are broken, and what a model is told of them."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest

from foveate.errors import MediaError
from foveate.media import Video, read_video, video_of

av = pytest.importorskip("av", reason="the extra 'video' is not installed")

TICK = Fraction(1, 1000)


def clip(
    times: Sequence[float], kind: str = "matroska", *, moved: Callable[[int], int] = lambda time: time
) -> bytes:
    """Frames at these seconds, each of its own grey; `moved` changes the milliseconds that are written."""
    out = io.BytesIO()
    with av.open(out, "w", format=kind) as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = stream.time_base = TICK
        packets = []
        for number, seconds in enumerate(times):
            grey = np.full((48, 64, 3), 8 + 5 * (number % 48), np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = round(seconds * 1000), TICK
            packets += stream.encode(frame)
        for packet in [*packets, *stream.encode()]:
            packet.pts = packet.dts = moved(packet.pts)
            container.mux(packet)
    return out.getvalue()


def numbers(video: Video) -> list[int]:
    return [round((float(frame.mean()) - 8) / 5) for frame in video.frames]


VARIABLE = [0.0, 0.04, 0.08, 1.0, 1.04, 3.5, 7.0, 7.2]


@pytest.mark.parametrize("kind", ["matroska", "mp4"])
@pytest.mark.parametrize(
    ("rate", "kept", "moments"),
    [
        (None, [0, 1, 2, 3, 4, 5, 6, 7], VARIABLE),
        # The frame on screen at each multiple of half a second; one that stays is looked at when it first shows.
        (2.0, [0, 2, 3, 4, 5, 6], [0.0, 0.5, 1.0, 1.5, 3.5, 7.0]),
        (1.0, [0, 3, 4, 5, 6], [0.0, 1.0, 2.0, 4.0, 7.0]),
    ],
)
def test_a_variable_rate(kind: str, rate: float | None, kept: list[int], moments: list[float]) -> None:
    video = read_video(clip(VARIABLE, kind), frames_per_second=rate)
    assert numbers(video) == kept
    assert video.timestamps == pytest.approx([VARIABLE[number] for number in kept])
    assert video.moments == pytest.approx(moments)


def test_moments_of_an_even_rate_are_its_multiples_whatever_the_file_has() -> None:
    """29.97 frames a second: what is on screen at half a second began a little before."""
    times = [number * 1001 / 30000 for number in range(60)]
    video = read_video(clip(times, "mp4"), frames_per_second=2.0)
    assert video.moments.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert (video.timestamps <= video.moments).all() and video.timestamps[2] < 0.97
    few = read_video(clip(times, "mp4"), frames_per_second=20.0, max_frames=3)
    assert few.moments == pytest.approx([0.0, times[-1] / 2, times[-1]], abs=2e-3)


@pytest.mark.parametrize("kind", ["matroska", "mpegts"])
def test_times_that_tell_nothing_apart(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """All frames at one time: none is lost, and the log says that their spacing is a guess."""
    with caplog.at_level(logging.WARNING, logger="foveate.media.timeline"):
        video = read_video(
            clip([0.04 * number for number in range(16)], kind, moved=lambda _: 0), frames_per_second=None
        )
    assert numbers(video) == list(range(16))
    assert (np.diff(video.timestamps) > 0).all()
    assert "16 frames have 1 times" in caplog.text


def test_a_jump_in_time_is_refused_with_the_numbers() -> None:
    broken = clip(
        [0.04 * number for number in range(16)], moved=lambda time: time if time < 200 else time + 10**9
    )
    with pytest.raises(MediaError, match=r"1,000,000\.\d seconds, and max_video_seconds is 3,600"):
        read_video(broken)


@pytest.mark.parametrize(
    ("old", "new"), [(b"V_MPEG4/ISO/AVC", b"V_QUUX/ISO/ZZZZ"), (b"avc1", b"zzzz")], ids=["matroska", "mp4"]
)
def test_a_codec_that_is_not_there(old: bytes, new: bytes) -> None:
    whole = clip([0.0, 0.04, 0.08], "matroska" if old.startswith(b"V") else "mp4")
    with pytest.raises(MediaError, match=r"unknown video codec\. Convert it to H\.264 in MP4\."):
        read_video(whole.replace(old, new))


@pytest.mark.parametrize(
    ("head", "kind"),
    [(b"RIFF\0\0\0\0WAVEfmt ", "WAV sound"), (b"ID3\4", "MP3 sound"), (b"fLaC", "FLAC sound")],
)
def test_sound_is_named(head: bytes, kind: str) -> None:
    with pytest.raises(MediaError, match=rf"is not a video: its content looks like: {kind}"):
        read_video(head + bytes(64))


def test_frames_that_are_decoded_already() -> None:
    frames = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    video = video_of(frames, [5.0, 6.5])
    assert (video.timestamps.tolist(), video.duration, video.width, len(video)) == ([0.0, 1.5], 3.0, 6, 2)
    assert video.frames is not frames and not video.frames.flags.writeable
    assert video == video_of(frames, [0.0, 1.5]) and video != video_of(frames, [0.0, 2.0])
    for wrong, times, told in (
        (frames[0], [0.0], "a video is"),
        (frames.astype(np.float32), [0.0, 1.0], "a video is"),
        (frames[:0], [], "a video is"),
        (frames, [0.0], "2 frames need as many"),
        (frames, [1.0, 1.0], "above the one before"),
        (frames, [0.0, float("nan")], "finite seconds"),
    ):
        with pytest.raises(MediaError, match=told):
            video_of(wrong, times)
