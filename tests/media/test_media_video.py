"""Video files written with PyAV: which frames come back, when, which way up, and what is refused."""

from __future__ import annotations

import base64
import builtins
import io
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.errors import MediaError, MissingExtraError
from foveate.media import MediaLimits, Video, read_video
from foveate.media import video as video_module
from foveate.media.timeline import choose

av = pytest.importorskip("av", reason="the extra 'video' is not installed")

WIDTH, HEIGHT, RATE = 64, 48, 10
CONTAINERS = [
    ("mp4", "libx264"),
    ("mp4", "mpeg4"),
    ("mov", "libx264"),
    ("matroska", "libx264"),
    ("webm", "libvpx-vp9"),
    ("webm", "libvpx"),
    ("avi", "mpeg4"),
    ("avi", "libx264"),  # with B-frames, of which AVI does not store the times
    ("avi", "ffv1"),
    ("mpegts", "libx264"),
    ("mpegts", "mpeg2video"),
    ("flv", "libx264"),
    ("asf", "mpeg4"),
    ("gif", "gif"),
]


def shade(number: int) -> int:
    """The grey level that stands for a frame number; steps of 5 survive any codec here, and repeat after 48."""
    return 8 + 5 * (number % 48)


def numbers(video: Video) -> list[int]:
    """Frame numbers modulo 48 read back from the pixels."""
    return [round((float(frame[:, :, 1].mean()) - 8) / 5) for frame in video.frames]


@cache
def clip(kind: str, codec: str, count: int = 30, group: int = 8, **options: str) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=RATE, options={"g": str(group), **options})
        stream.width, stream.height = WIDTH, HEIGHT
        stream.bit_rate = 4_000_000  # greys must come back exact to two levels
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for number in range(count):
            grey = np.full((HEIGHT, WIDTH, 3), shade(number), np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            for packet in stream.encode(frame.reformat(format=stream.pix_fmt)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return out.getvalue()


def turned(data: bytes, matrix: tuple[int, ...]) -> bytes:
    """The same MP4 with another display matrix (a, b, c, d of ISO/IEC 14496-12, tkhd) written into its header."""
    out = bytearray(data)
    at = out.index(b"tkhd") + 4 + 40
    out[at : at + 36] = struct.pack(
        ">9i", matrix[0] << 16, matrix[1] << 16, 0, matrix[2] << 16, matrix[3] << 16, 0, 0, 0, 1 << 30
    )
    return bytes(out)


@pytest.mark.parametrize(("kind", "codec"), CONTAINERS)
def test_every_frame_of_every_container(kind: str, codec: str) -> None:
    video = read_video(clip(kind, codec), frames_per_second=None)
    assert video.frames.shape == (30, HEIGHT, WIDTH, 3) and video.frames.dtype == np.uint8
    assert video.frames.flags.c_contiguous and not video.frames.flags.writeable
    if codec != "gif":  # eight fixed greys cannot carry thirty shades
        assert numbers(video) == list(range(30))
    assert np.allclose(video.timestamps, np.arange(30) / RATE, atol=2e-3)
    assert video.duration == pytest.approx(3.0, abs=0.01) and video.total_frames == 30


@pytest.mark.parametrize(("kind", "codec"), [entry for entry in CONTAINERS if entry[1] != "gif"])
@pytest.mark.parametrize(
    ("rate", "most", "expected"),
    [
        (2.0, 64, [0, 5, 10, 15, 20, 25]),
        (1.0, 64, [0, 10, 20]),
        (5.0, 64, list(range(0, 30, 2))),
        (0.1, 64, [0]),
        (1000.0, 64, list(range(30))),
        (None, 3, [0, 14, 29]),
        (2.0, 1, [0]),
        (4.0, 4, [0, 9, 19, 29]),
    ],
)
def test_rate_and_uniform_sampling(
    kind: str, codec: str, rate: float | None, most: int, expected: list[int]
) -> None:
    video = read_video(clip(kind, codec), frames_per_second=rate, max_frames=most)
    assert numbers(video) == expected
    assert np.allclose(video.timestamps, np.array(expected) / RATE, atol=2e-3)


@pytest.mark.parametrize(("kind", "codec"), [entry for entry in CONTAINERS if entry[1] != "gif"])
def test_jumping_gives_the_frames_of_plain_decoding(
    kind: str, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = clip(kind, codec, count=140, group=10)
    sparse = read_video(data, frames_per_second=0.5)
    monkeypatch.setattr(video_module, "_SEEK_WORTH", 10**9)
    plain = read_video(data, frames_per_second=0.5)
    assert numbers(sparse) == [number % 48 for number in range(0, 140, 20)]
    assert sparse == plain and np.array_equal(sparse.frames, plain.frames)


def test_b_frames_of_mpeg4_in_avi() -> None:
    video = read_video(clip("avi", "mpeg4", bf="2"), frames_per_second=5.0)
    assert numbers(video) == list(range(0, 30, 2))


def test_jumping_decodes_fewer_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    data = clip("mp4", "libx264", count=300, group=10)
    jumps: list[int] = []
    original = video_module.opened_file

    class Watched:
        def __init__(self, container: Any) -> None:
            self.container = container

        def seek(self, *args: Any, **named: Any) -> None:
            jumps.append(args[0])
            self.container.seek(*args, **named)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.container, name)

    def opened(*args: Any) -> Any:
        @video_module.contextmanager
        def wrapped() -> Any:
            with original(*args) as (container, stream):
                yield Watched(container), stream

        return wrapped()

    monkeypatch.setattr(video_module, "opened_file", opened)
    assert numbers(read_video(data, frames_per_second=0.2)) == [number % 48 for number in range(0, 300, 50)]
    assert len(jumps) == 5


def test_a_wrong_index_falls_back_to_plain_decoding(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Seeks that land too late must cost time, not the right frames."""
    original = video_module.opened_file

    class Late:
        def __init__(self, container: Any) -> None:
            self.container = container

        def seek(self, offset: int, *, stream: Any) -> None:
            self.container.seek(offset + int(3 / stream.time_base), stream=stream)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.container, name)

    def opened(*args: Any) -> Any:
        @video_module.contextmanager
        def wrapped() -> Any:
            with original(*args) as (container, stream):
                yield Late(container), stream

        return wrapped()

    monkeypatch.setattr(video_module, "opened_file", opened)
    video = read_video(clip("mp4", "libx264", count=140, group=10), frames_per_second=0.5)
    assert numbers(video) == [number % 48 for number in range(0, 140, 20)]
    assert "its index is wrong" in caplog.text


def quadrants() -> bytes:
    """An MP4 whose stored picture is red, lime / blue, white."""
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    half_height, half_width = HEIGHT // 2, WIDTH // 2
    rgb[:half_height, :half_width], rgb[:half_height, half_width:] = (255, 0, 0), (0, 255, 0)
    rgb[half_height:, :half_width], rgb[half_height:, half_width:] = (0, 0, 255), (255, 255, 255)
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())
    return out.getvalue()


@pytest.mark.parametrize(
    ("matrix", "corners"),
    [
        ((1, 0, 0, 1), "RGBW"),
        ((0, 1, -1, 0), "BRWG"),  # clockwise: what was bottom left is now top left
        ((-1, 0, 0, -1), "WBGR"),
        ((0, -1, 1, 0), "GWRB"),
    ],
)
def test_rotation_metadata(matrix: tuple[int, ...], corners: str) -> None:
    video = read_video(turned(quadrants(), matrix), max_frames=1)
    upright = corners in ("RGBW", "WBGR")
    assert (video.width, video.height) == ((WIDTH, HEIGHT) if upright else (HEIGHT, WIDTH))
    colours = {"R": (255, 0, 0), "G": (0, 255, 0), "B": (0, 0, 255), "W": (255, 255, 255)}
    places = [(6, 6), (6, -6), (-6, 6), (-6, -6)]
    for letter, place in zip(corners, places, strict=True):
        assert np.abs(video.frames[0][place].astype(int) - colours[letter]).max() < 40, (letter, place)


def test_sources_and_digest(tmp_path: Path) -> None:
    data = clip("mp4", "libx264")
    path = tmp_path / "clip.txt"
    path.write_bytes(data)
    uri = "data:video/mp4;base64," + base64.b64encode(data).decode()
    first = read_video(path)
    for source in (str(path), data, bytearray(data), uri):
        assert read_video(source) == first
    assert first.source.endswith("clip.txt") and len(repr(first)) < 250
    assert len({read_video(path, frames_per_second=rate).digest for rate in (1.0, 2.0, 3.0)}) == 3


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_video_frames": 29}, "30 frames, and max_video_frames is 29"),
        ({"max_video_seconds": 2.5}, "3 seconds, and max_video_seconds is 2.5"),
        ({"max_pixels": 3000}, "3,072 pixels, and max_pixels is 3,000"),
        ({"max_side": 60}, "64 pixels, and max_side is 60"),
        ({"max_video_bytes": 1000}, "and max_video_bytes is 1,000"),
        ({"max_video_pixels": 10_000}, "18,432 pixels, and max_video_pixels is 10,000. Pass max_frames=3"),
        ({"max_frames": 8}, "64 frames, and max_frames is 8"),
    ],
)
def test_limits_act_before_decoding(
    limits: dict[str, float], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("frames were decoded before the limit was checked")

    monkeypatch.setattr(video_module, "_collect", forbidden)
    with pytest.raises(MediaError) as error:
        read_video(clip("mp4", "libx264"), limits=MediaLimits(**limits))  # type: ignore[arg-type]
    assert words in str(error.value)


def lying(data: bytes) -> bytes:
    """A Matroska file that says nothing of frames and claims a tenth of a second."""
    out = bytearray(data)
    at = out.index(b"\x44\x89\x88") + 3  # Duration, eight bytes, in milliseconds
    out[at : at + 8] = struct.pack(">d", 100.0)
    for match in (b"00:00:03.000000000",):
        place = out.find(match)
        if place >= 0:
            out[place : place + len(match)] = b"00:00:00.100000000"
    return bytes(out)


def test_metadata_that_lies_does_not_help() -> None:
    data = lying(clip("matroska", "libx264"))
    with av.open(io.BytesIO(data)) as container:
        assert container.duration == 100_000 and container.streams.video[0].frames == 0
    assert numbers(read_video(data, frames_per_second=1.0)) == [0, 10, 20]
    with pytest.raises(MediaError, match=r"2.\d seconds, and max_video_seconds is 2"):
        read_video(data, limits=MediaLimits(max_video_seconds=2))
    with pytest.raises(MediaError, match="13 frames, and max_video_frames is 12"):
        read_video(data, limits=MediaLimits(max_video_frames=12))


def test_a_claimed_duration_is_refused_without_reading_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("packets were read although the header already broke the limit")

    monkeypatch.setattr(video_module, "scan", forbidden)
    with pytest.raises(MediaError, match="max_video_seconds is 1"):
        read_video(clip("matroska", "libx264"), limits=MediaLimits(max_video_seconds=1))


def picture(kind: str) -> bytes:
    out = io.BytesIO()
    PIL.Image.new("RGB", (8, 8)).save(out, kind)
    return out.getvalue()


def sound() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def no_frames() -> bytes:
    """A whole AVI file with a video stream and not one frame."""
    out = io.BytesIO()
    with av.open(out, "w", format="avi") as container:
        stream = container.add_stream("ffv1", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.start_encoding()
    return out.getvalue()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"", "is empty"),
        (b"no video at all, just words", "cannot be opened as a video"),
        (picture("PNG"), "open_image"),
        (picture("JPEG"), "looks like: JPEG"),
        (b"%PDF-1.4", "PDF document"),
        (b"OggS\x00\x02", "Ogg file"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/hostname\n", "cannot be opened as a video"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "cannot be opened as a video"),
        (sound(), "has no video stream"),
        (no_frames(), "has no frames"),
        ("https://example.com/a.mp4", "Download the video first"),
        ("nowhere.mp4", "does not exist"),
        (3, "cannot open a int as a video"),
    ],
)
def test_what_is_not_a_video(source: Any, words: str) -> None:
    with pytest.raises(MediaError) as error:
        read_video(source)
    text = str(error.value)
    assert words in text and "\n" not in text and len(text) < 400


def test_playlists_never_open_other_files(tmp_path: Path) -> None:
    (tmp_path / "part.ts").write_bytes(clip("mpegts", "libx264"))
    part = tmp_path / "part.ts"
    playlists = {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:3,\n{part}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile {part.name}\n",
    }
    for name, text in playlists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(MediaError, match="cannot be opened as a video"):
            read_video(tmp_path / name)


@pytest.mark.parametrize(
    "request_", [{"frames_per_second": 0.0}, {"frames_per_second": float("nan")}, {"max_frames": 0}]
)
def test_impossible_requests(request_: dict[str, Any]) -> None:
    with pytest.raises(MediaError, match="Give"):
        read_video(clip("mp4", "libx264"), **request_)


@given(
    entry=st.sampled_from([entry for entry in CONTAINERS if entry[0] not in ("mpegts", "flv", "asf", "gif")]),
    share=st.floats(0, 1, exclude_max=True),
)
@settings(max_examples=80, deadline=None)
def test_truncated_anywhere_raises(entry: tuple[str, str], share: float) -> None:
    data = clip(*entry)
    with pytest.raises(MediaError):
        read_video(data[: int(share * len(data))], frames_per_second=None)


@pytest.mark.parametrize(("kind", "codec"), [("mp4", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mpeg4")])
def test_cut_in_the_middle_names_both_sizes(kind: str, codec: str) -> None:
    data = clip(kind, codec)
    half = len(data) // 2
    with pytest.raises(MediaError, match=rf"truncated or damaged: it holds {half:,} of the [\d,]+ bytes"):
        read_video(data[:half])


@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=10))
@settings(max_examples=60, deadline=None)
def test_random_damage_raises_only_media_errors(changes: list[tuple[float, int]]) -> None:
    for kind, codec in (("mp4", "mpeg4"), ("webm", "libvpx-vp9")):
        data = bytearray(clip(kind, codec))
        for place, value in changes:
            data[int(place * len(data))] = value
        try:
            video = read_video(bytes(data), limits=MediaLimits(max_pixels=100_000))
        except MediaError:
            continue
        assert 1 <= len(video) <= 64


def test_a_stream_that_appears_halfway_is_a_media_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV raises IndexError there (found by fuzzing transport streams)."""
    original = video_module.opened_file

    class Growing:
        def __init__(self, container: Any) -> None:
            self.container = container

        def demux(self, stream: Any) -> Any:
            yield next(self.container.demux(stream))
            raise IndexError("list index out of range")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.container, name)

    def opened(*args: Any) -> Any:
        @video_module.contextmanager
        def wrapped() -> Any:
            with original(*args) as (container, stream):
                yield Growing(container), stream

        return wrapped()

    monkeypatch.setattr(video_module, "opened_file", opened)
    with pytest.raises(MediaError, match="changes its streams"):
        read_video(clip("mpegts", "libx264"))


def test_files_joined_end_to_end_keep_every_frame(caplog: pytest.LogCaptureFixture) -> None:
    """Times start again at the join; by time alone the second half would be lost."""
    video = read_video(clip("mpegts", "libx264", count=20) * 2, frames_per_second=None)
    assert numbers(video) == list(range(20)) * 2
    assert "run backwards" in caplog.text


def test_missing_extra_prints_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_av(name: str, *args: Any, **named: Any) -> Any:
        if name == "av":
            raise ImportError("no av")
        return real(name, *args, **named)

    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(MissingExtraError, match=r"pip install 'foveate\[video\]'"):
        read_video(b"anything")


@given(
    gaps=st.lists(st.floats(1e-3, 2.0), max_size=60),
    rate=st.one_of(st.none(), st.floats(0.05, 200)),
    most=st.integers(1, 40),
)
def test_choice_is_ascending_unique_and_bounded(gaps: list[float], rate: float | None, most: int) -> None:
    seconds = np.concatenate([[0.0], np.cumsum(gaps)])
    kept = choose(seconds, rate, most)
    assert 1 <= len(kept) <= most and kept[0] == 0 and kept[-1] < len(seconds)
    assert (np.diff(kept) > 0).all()
    if rate is not None and len(kept) > 1:
        assert len(kept) <= int(seconds[-1] * rate + 1e-6) + 1
    if rate is None and len(seconds) <= most:
        assert kept.tolist() == list(range(len(seconds)))
