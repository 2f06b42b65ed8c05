"""Videos on the command line: as a video or as pictures, by name or by flag, in a question and in a session."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import tiny

from foveate.cli import chat
from foveate.cli.arguments import means_video, sort_arguments, split_prompt
from foveate.cli.main import run
from foveate.media import read_video

QUESTION = "what colour is it"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of six frames each, every second of another grey."""
    path = tmp_path_factory.mktemp("clips") / "my clip.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=6)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for grey in (40, 120, 200):
            pixels = np.full((48, 64, 3), grey, np.uint8)
            for _ in range(6):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root, built = tmp_path_factory.mktemp("video-models"), {}

    def build(family: str) -> Path:
        if family not in built:
            built[family] = tiny.build_tiny(family, root / family)
        return built[family]

    return build


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert run(["chat", *words, "--json", "--max-tokens", "4", "--device", "cpu"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_a_video_by_its_name_and_by_the_flag(
    models: Callable, clip: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = str(models("qwen2_vl"))
    named = ask(capsys, model, str(clip), QUESTION)
    [seen] = named["images"]
    video = read_video(clip, max_frames=8)
    assert (seen["frames"], seen["width"], seen["frame_of"]) == (3, 64, None)
    assert seen["times"] == [0.0, 1.0, 2.0] and seen["digest"] == video.digest
    assert named["usage"]["image_tokens"] == seen["tokens"] > 0
    other = tmp_path / "clip.bin"  # no name of a video
    other.write_bytes(clip.read_bytes())
    assert ask(capsys, model, "--video", str(other), QUESTION)["answer"] == named["answer"]
    assert ask(capsys, model, f'"{clip}" {QUESTION}')["images"][0]["digest"] == video.digest
    slower = ask(capsys, model, str(clip), QUESTION, "--frames-per-second", "1")
    assert slower["images"][0]["times"] == [0.0, 2.0]
    fewer = ask(capsys, model, str(clip), QUESTION, "--max-frames", "2", "--visual-budget", "50%")
    assert fewer["images"][0]["frames"] == 1
    assert fewer["usage"]["image_tokens_kept"] == fewer["usage"]["image_tokens"] // 2


def test_a_model_without_videos_is_shown_pictures(
    models: Callable, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reply = ask(capsys, str(models("llava")), str(clip), QUESTION, "--max-frames", "3")
    assert len(reply["images"]) == 3
    assert {(one["frames"], one["frame_of"]) for one in reply["images"]} == {(1, f"video 1: {clip}")}


def test_a_session_says_what_it_looks_at(
    models: Callable, clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: Iterator[str] = iter([f'"{clip}" {QUESTION}', "and now", "/bye"])
    monkeypatch.setattr(chat, "interactive_input", lambda: True)
    monkeypatch.setattr(builtins, "input", lambda _: next(lines))
    assert run(["chat", str(models("qwen2_vl")), "--max-tokens", "3", "--device", "cpu"]) == 0
    told = capsys.readouterr().err
    assert "6 frames of 18 over 3.0 s, 64×48" in told and "as pictures" not in told
    assert told.count("image tokens ·") == 2, "the video stays in the conversation"


def test_what_is_refused(
    models: Callable, clip: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[:900])
    for words, told in (
        ([str(clip), QUESTION, "--show"], "What the model saw of a video is not drawn"),
        ([str(cut), QUESTION], "cut.mp4"),
        (["--image", str(clip.with_suffix(".mpg")), QUESTION], "no picture"),
        ([str(clip), QUESTION, "--frames-per-second", "0"], "a rate is a finite number above zero"),
    ):
        assert run(["chat", str(models("qwen2_vl")), *words]) != 0
        assert told in capsys.readouterr().err


def test_names_that_mean_a_video() -> None:
    assert means_video("a/B.MP4") and means_video("data:video/mp4;base64,AAAA") and not means_video("b.png")
    request = sort_arguments(["data:video/mp4;base64,AAAA", "why"])
    assert (request.images, request.question) == (("data:video/mp4;base64,AAAA",), "why")
    assert split_prompt("see data:video/webm;base64,AAAA now") == ("see now", ["data:video/webm;base64,AAAA"])
