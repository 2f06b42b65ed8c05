"""`foveate stream` and the frames it reads: bounded for as long as it is fed, and honest about what it drops."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from foveate.cli.main import run
from foveate.cli.stream import Watch
from foveate.errors import MediaError
from foveate.media import open_live

EXAMPLE = Path(__file__).parents[2] / "examples" / "moving.mp4"


def written(path, times, size=(64, 48), rate=10):
    """A video whose frames have these times in tenths of a second; None leaves the muxer to it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"bf": "0", "g": "1"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for number, time in enumerate(times):
            shade = np.full((size[1], size[0], 3), 20 + 10 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(shade, format="rgb24")
            frame.pts = time
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# -- frames -------------------------------------------------------------------------------------------------------


def test_frames_of_a_file_come_with_their_times(tmp_path):
    path = written(tmp_path / "clip.mp4", [0, 1, 2, 5, 9])
    with open_live(path) as video:
        frames = [(frame.seconds, frame.pixels().mean()) for frame in video.frames()]
        assert (video.width, video.height, video.live) == (64, 48, False)
    assert [seconds for seconds, _ in frames] == pytest.approx([0, 0.1, 0.2, 0.5, 0.9])
    assert [shade for _, shade in frames] == pytest.approx([20, 30, 40, 50, 60], abs=3)
    assert not video.mended


def made_of(frames, error=ValueError):
    """A live video over frames of our own."""
    from foveate.media.live import LiveVideo

    stream = SimpleNamespace(average_rate=10, time_base=0.1)
    packets = [
        SimpleNamespace(decode=frame if callable(frame) else lambda one=frame: [one]) for frame in frames
    ]
    container = SimpleNamespace(demux=lambda stream: iter(packets))
    return LiveVideo("clip", 4, 4, False, container, stream, error)


def shown(pts, corrupt=False):
    return SimpleNamespace(pts=pts, is_corrupt=corrupt)


def test_broken_times_are_mended_and_counted():
    frames = [shown(50), shown(51), shown(None), shown(40), shown(41), shown(99_999), shown(100_001)]
    video = made_of(frames)
    times = [frame.seconds for frame in video.frames()]
    assert times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7])
    assert video.mended == Counter(untimed=1, retimed=2)


def test_packets_that_give_no_picture_are_left_out_and_counted_until_there_is_no_hope():
    def fails():
        raise ValueError("bad packet")

    video = made_of([shown(0), fails, shown(1, corrupt=True), shown(2)])
    assert [frame.seconds for frame in video.frames()] == pytest.approx([0, 0.2])
    assert video.mended == Counter(damaged=2)
    with pytest.raises(MediaError, match="100 packets in a row: bad packet"):
        list(made_of([shown(0), *[fails] * 100]).frames())
    with pytest.raises(MediaError, match="none of its frames"):
        list(made_of([fails]).frames())


def test_what_is_no_stream_is_refused(tmp_path):
    whole = written(tmp_path / "whole.mp4", range(10)).read_bytes()
    cut, text = tmp_path / "cut.mp4", tmp_path / "notes.mp4"
    cut.write_bytes(whole[: len(whole) // 2])
    text.write_text("no video", encoding="ascii")
    for source, words in [
        (cut, "truncated or damaged"),
        (text, "cannot be opened"),
        ("camera:front", "cameras have numbers"),
        ("camera:97", "cannot be opened"),
        ("rtsp://127.0.0.1:9/nothing", "cannot be opened"),
    ]:
        with pytest.raises(MediaError, match=words), open_live(source, stall_seconds=0.5):
            pass


def test_the_password_of_an_address_is_not_told():
    with (
        pytest.raises(MediaError, match=r"^rtsp://127\.0\.0\.1:9/a cannot") as told,
        open_live("rtsp://me:secret@127.0.0.1:9/a?key=1", stall_seconds=0.5),
    ):
        pass
    assert "secret" not in str(told.value) and "key" not in str(told.value)


def test_a_stream_that_breaks_off_says_whether_it_stalled():
    def silent(stream):
        yield SimpleNamespace(decode=lambda: [shown(0)])
        raise ValueError("timed out")

    for live, words in ((True, "has stalled: timed out"), (False, "is damaged: timed out")):
        video = made_of([])
        video.live, video._container = live, SimpleNamespace(demux=silent)
        frames = video.frames()
        assert next(frames).seconds == 0
        with pytest.raises(MediaError, match=words):
            next(frames)


# -- the command --------------------------------------------------------------------------------------------------


def test_the_example_is_what_its_script_makes(tmp_path):
    spec = importlib.util.spec_from_file_location("make_video", EXAMPLE.parent / "make_video.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    made.main(tmp_path / "moving.mp4", scenes=1)
    with open_live(tmp_path / "moving.mp4") as one, open_live(EXAMPLE) as other:
        pairs = list(zip(one.frames(), other.frames(), strict=False))
        assert len(pairs) == made.SECONDS * made.FRAMES_PER_SECOND
        for mine, kept in pairs[::8]:
            apart = np.abs(mine.pixels().astype(int) - kept.pixels().astype(int)).mean()
            assert apart < 8, "another scene"


def test_a_stream_has_bounded_memory_and_counts_every_frame(capsys):
    words = ["--window", "2", "--repeat", "2", "--seconds", "20", "--ask", "3:How many stars are there?"]
    assert run(["stream", str(EXAMPLE), "--json", "--dtype", "float32", *words]) == 0
    start, *seconds, end = lines(capsys)
    answers = [one for one in seconds if one["event"] == "answer"]
    seconds = [one for one in seconds if one["event"] == "second"]
    assert [one["second"] for one in answers] == [3] and answers[0]["text"].strip()
    assert [one["second"] for one in seconds] == list(range(20))
    held = [one["bytes"] for one in seconds]
    assert held[-1] <= held[4] * 1.05 <= start["bound"]["bytes"], "after the window has filled nothing grows"
    assert max(one["tokens"] for one in seconds) <= start["bound"]["tokens"]
    assert all(one["evicted"] for one in seconds[2:])
    assert end["frames_seen"] == end["frames_used"] + sum(end["frames_dropped"].values()) == 160
    assert end["frames_dropped"] == {"rate": 140} and end["frames_mended"] == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.mp4"], "nowhere.mp4"),
        ([str(EXAMPLE), "--ask", "soon:what"], "SECOND:QUESTION"),
        ([str(EXAMPLE), "--window", "60"], "the model's context is 1,024"),
        ([str(EXAMPLE), "--sink-tokens", "1", "--system", "Count the red stars"], "sink_tokens is 1"),
    ],
)
def test_mistakes_are_told_in_one_line(words, message, capsys):
    assert run(["stream", *words]) == 2
    assert message in capsys.readouterr().err


class FakeSession:
    """Takes frames and `cost` seconds of a clock for each."""

    def __init__(self, clock, cost):
        self.clock, self.cost, self.taken = clock, cost, []
        self.frames = SimpleNamespace(seen=0, used=0, dropped=Counter())

    def push_frame(self, image, seconds):
        self.frames.seen += 1
        self.frames.used += 1
        self.taken.append(seconds)
        self.clock.now += self.cost

    def flush(self):
        return None


class FakeClock:
    def __init__(self):
        self.now, self.slept = 100.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.mark.parametrize("cost", [0.1, 3.0])
def test_at_real_pace_frames_are_waited_for_and_what_comes_too_late_is_dropped(cost):
    clock = FakeClock()
    session, video = FakeSession(clock, cost), SimpleNamespace(mended=Counter())
    watch = Watch(session, video, [], real=True, as_json=False, clock=clock, sleep=clock.sleep)
    arriving = [(float(second), SimpleNamespace(pixels=None)) for second in range(30)]
    watch.frames(iter(arriving), None)
    counts = watch._counts()
    assert counts["frames_seen"] == counts["frames_used"] + counts["frames_dropped"].get("slow", 0) == 30
    if cost < 1:
        assert session.taken == list(range(30)) and not watch.slow
        assert clock.now == pytest.approx(129 + cost)
    else:
        # Never more than a second and one frame behind; about every third frame is looked at.
        assert 9 <= len(session.taken) <= 12 and watch.slow == 30 - len(session.taken)
        assert clock.now <= 100 + 29 + 1 + cost


def test_at_a_fast_pace_nothing_waits_and_nothing_is_dropped():
    clock = FakeClock()
    session = FakeSession(clock, 5.0)
    watch = Watch(
        session,
        SimpleNamespace(mended=Counter()),
        [],
        real=False,
        as_json=False,
        clock=clock,
        sleep=clock.sleep,
    )
    watch.frames(((float(second), SimpleNamespace(pixels=None)) for second in range(9)), 5)
    assert session.taken == [0, 1, 2, 3, 4] and not clock.slept and not watch.slow
