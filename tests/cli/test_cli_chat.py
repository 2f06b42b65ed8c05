"""`foveate chat` from end to end on a tiny random LLaVA checkpoint: real processes, no network."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from terminal_driver import Terminal, child_environment

from foveate.cli.main import run
from foveate.cli.session import PROMPT

Runner = Callable[..., "subprocess.CompletedProcess[str]"]
Ask = Callable[..., dict[str, Any]]
QUESTION = "how many red squares are there"
TOKENS = 16  # 56×56 pixels in patches of 14


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """`foveate chat … --json` inside this process, for what is not about processes: torch is imported once."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # as start_engine sets it; here it is taken back after the test

    def run_here(*words: str) -> dict[str, Any]:
        code = run(["chat", "--json", *words])
        shown = capsys.readouterr()
        assert (code, shown.err) == (0, "")
        reply: dict[str, Any] = json.loads(shown.out)
        return reply

    return run_here


def test_json_is_one_whole_object(foveate: Runner, tiny_llava: Path, picture: Path) -> None:
    done = foveate("chat", str(tiny_llava), str(picture), QUESTION, "--json", "--max-tokens", "8")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    reply = json.loads(done.stdout)
    assert set(reply) == {
        "model",
        "question",
        "answer",
        "finish_reason",
        "usage",
        "timings",
        "speculation",
        "engine",
        "images",
        "overlays",
    }
    assert reply["speculation"] is None
    assert reply["overlays"] == []
    assert reply["model"] == str(tiny_llava)
    assert reply["question"] == QUESTION
    assert reply["answer"]
    assert reply["finish_reason"] in ("stop", "length")
    assert reply["usage"]["image_tokens"] == TOKENS
    assert reply["usage"]["prompt_tokens"] > TOKENS
    assert 1 <= reply["usage"]["completion_tokens"] <= 8
    timings = reply["timings"]
    assert 0 < timings["prepare"] < timings["first_token"] < timings["total"] < 60
    assert timings["load"] > 0
    assert timings["tokens_per_second"] > 0
    assert all(timings[stage] > 0 for stage in ("encode", "prefill", "decode"))
    assert reply["usage"]["cached_tokens"] == 0
    facts = reply["engine"]  # sized for one reader: one conversation as long as the context
    assert facts["kv_tokens"] == 4096 and facts["kv_bytes"] > 0 and facts["encoder_bytes"] > 0
    assert len(facts["memory"]) == 3 and facts["weights"] and facts["attention"]
    (image,) = reply["images"]
    assert (image["width"], image["height"], image["tokens"]) == (40, 30, TOKENS)
    assert image["source"].endswith("my cat.png")
    from foveate.media import open_image

    assert image["digest"] == open_image(picture).digest


def test_a_budget_is_shown_in_figures_and_in_a_picture(
    ask: Ask, tiny_llava: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = (str(tiny_llava), str(picture), QUESTION, "--max-tokens", "4", "--visual-budget", "25%")
    reply = ask(*words, "--reducer", "strided", "--show")
    assert reply["usage"]["image_tokens"] == TOKENS and reply["usage"]["image_tokens_kept"] == TOKENS // 4
    (image,) = reply["images"]
    assert image["tokens_kept"] == TOKENS // 4 and "25%" in image["reason"]
    assert reply["overlays"] == ["my cat-kept.png"]
    with Image.open("my cat-kept.png") as overlay:
        assert min(overlay.size) > 700
    monkeypatch.setenv("FOVEATE_VISUAL_BUDGET", "8")
    assert ask(*words[:5])["usage"]["image_tokens_kept"] == 8


def test_more_tokens_than_a_picture_has_are_refused(foveate: Runner, tiny_llava: Path, picture: Path) -> None:
    done = foveate("chat", str(tiny_llava), str(picture), QUESTION, "--visual-budget", str(TOKENS + 1))
    assert done.returncode != 0 and done.stdout == ""
    assert str(TOKENS + 1) in done.stderr and f"at most {TOKENS}" in done.stderr


def test_the_answer_alone_is_on_stdout(foveate: Runner, tiny_llava: Path, picture: Path) -> None:
    words = ("chat", "--model", str(tiny_llava), str(picture), QUESTION, "--max-tokens", "8")
    streamed, whole = foveate(*words), foveate(*words, "--no-stream")
    assert streamed.returncode == whole.returncode == 0, streamed.stderr + whole.stderr
    assert streamed.stdout.strip() == whole.stdout.strip() != ""
    assert streamed.stderr.count("\n") == 1
    for part in (f"{TOKENS} image tokens", "prompt tokens", "tokens/s", "first token"):
        assert part in streamed.stderr
    assert "\x1b" not in streamed.stderr  # no styling where there is no terminal


def test_the_question_may_come_from_standard_input(
    ask: Ask, tiny_llava: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (str(tiny_llava), str(picture), "--max-tokens", "4")
    monkeypatch.setattr(sys, "stdin", io.StringIO(QUESTION + "\n"))
    assert ask(*words)["answer"] == ask(*words, QUESTION)["answer"]


def test_a_picture_may_come_in_several_ways(ask: Ask, tiny_llava: Path, picture: Path) -> None:
    uri = f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
    replies = [
        ask(str(tiny_llava), "--max-tokens", "4", *words)
        for words in ([str(picture), QUESTION], ["--image", uri, QUESTION], [f'"{picture}" {QUESTION}'])
    ]
    assert len({reply["answer"] for reply in replies}) == 1
    assert {reply["question"] for reply in replies} == {QUESTION}
    assert len({reply["images"][0]["digest"] for reply in replies}) == 1


def test_a_picture_may_come_from_standard_input(tiny_llava: Path, picture: Path) -> None:
    with picture.open("rb") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "foveate.cli", "chat", str(tiny_llava), "-", QUESTION, "--json"],
            stdin=stream,
            capture_output=True,
            env=child_environment(),
            check=True,
        )
    assert json.loads(done.stdout)["images"][0]["width"] == 40


def test_different_pictures_and_seeds_are_told_apart(
    ask: Ask, tiny_llava: Path, picture: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.png"
    Image.effect_noise((40, 30), 90).convert("RGB").save(other)
    common = (str(tiny_llava), QUESTION, "--max-tokens", "12")
    first, second = (ask(*common, str(path))["answer"] for path in (picture, other))
    assert first != second
    drawn = [
        ask(*common, str(picture), "--temperature", "1.5", "--seed", seed)["answer"]
        for seed in ("1", "1", "2")
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_an_answer_imports_nothing_that_it_does_not_need(tiny_llava: Path, picture: Path) -> None:
    """Start-up is imports; benchmarks/startup.py has the seconds."""
    unneeded = (
        "fastapi",
        "uvicorn",
        "prometheus_client",
        "matplotlib",
        "scipy",
        "pandas",
        "av",
        "pycocotools",
    )
    code = (
        "import sys; from foveate.cli.main import run; run(sys.argv[1:]); "
        f"print([name for name in {unneeded!r} if name in sys.modules])"
    )
    words = ["chat", str(tiny_llava), str(picture), QUESTION, "--max-tokens", "1"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env=child_environment(),
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture(scope="session")
def unplugged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH whose sitecustomize refuses every network attempt and notes it."""
    folder = tmp_path_factory.mktemp("unplugged")
    (folder / "sitecustomize.py").write_text(
        textwrap.dedent(
            """
            import pathlib, socket

            def refuse(*arguments, **keywords):
                with (pathlib.Path(__file__).parent / "attempts").open("a") as log:
                    log.write(repr(arguments) + "\\n")
                raise OSError("no network in this test")

            socket.getaddrinfo = socket.create_connection = refuse
            socket.socket.connect = socket.socket.connect_ex = refuse
            """
        )
    )
    return folder


def test_a_local_model_tries_no_network(
    foveate: Runner, tiny_llava: Path, picture: Path, unplugged: Path, tmp_path: Path
) -> None:
    surroundings = {"PYTHONPATH": str(unplugged), "HF_HOME": str(tmp_path / "hf")}
    done = foveate("chat", str(tiny_llava), str(picture), QUESTION, "--json", **surroundings)
    assert done.returncode == 0, done.stderr
    assert not (unplugged / "attempts").exists()
    # The trap itself works: a hub name does try, and its failure is one line.
    refused = foveate("chat", "organisation/absent-model", QUESTION, **surroundings)
    assert (unplugged / "attempts").exists()
    assert refused.returncode == 2
    assert refused.stderr.startswith("foveate: error: ")
    assert refused.stderr.count("\n") == 1


def hand_written(folder: Path, config: object) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_bad_input_that_only_opening_shows(
    foveate: Runner, tiny_llava: Path, tiny_text: Path, picture: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no picture at all")
    (tmp_path / "paper.pdf").write_bytes(b"%PDF-1.7\n" + bytes(200))
    (tmp_path / "cut.png").write_bytes(picture.read_bytes()[:60])
    (tmp_path / "named.png").write_text("a text with the wrong name")
    unknown = hand_written(tmp_path / "unknown", {"model_type": "flamingo"})
    empty = tmp_path / "empty"
    empty.mkdir()
    model, image = str(tiny_llava), str(picture)
    cases = {
        (model, "notes.txt", QUESTION): ["notes.txt"],
        (model, "paper.pdf", QUESTION): ["paper.pdf"],
        (model, "cut.png", QUESTION): ["cut.png"],
        (model, "named.png", QUESTION): ["named.png"],
        (str(tiny_text), image, QUESTION): ["text-only"],
        (model, image, "squares " * 5000): ["4096", "tokens"],
        (str(unknown), image, QUESTION): ["flamingo", "llava"],
        (str(empty), image, QUESTION): ["config.json"],
        (model, image, QUESTION, "--device", "warp"): ["warp"],
    }
    for words, says in cases.items():
        done = foveate("chat", *words, cwd=tmp_path)
        assert done.returncode == 2, (words[1:], done.stderr)
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert all(part in done.stderr for part in says), done.stderr


def test_a_wrong_picture_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture at all")
    code = (
        "import sys; from foveate.cli.main import run; code = run(['chat', 'notes.txt', 'what?']); "
        "print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=child_environment(),
        check=True,
    )
    assert done.stdout == "2 False\n"


def test_a_session_with_a_real_model(tiny_llava: Path, picture: Path) -> None:
    command = [sys.executable, "-m", "foveate.cli", "chat", str(tiny_llava), "--max-tokens", "6"]
    with Terminal(command, environment=child_environment(), folder=str(picture.parent)) as terminal:
        assert "M parameters · cpu" in terminal.expect(PROMPT, within=60)
        terminal.type(rf"my\ cat.png {QUESTION}")
        shown = terminal.expect("first token")
        assert f"picture my cat.png: 40×30, {TOKENS} image tokens" in shown
        assert f"{TOKENS} image tokens · " in shown
        terminal.expect(PROMPT)
        terminal.type("/bye")
        assert terminal.leave() == 0


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_quantised_weights_are_asked_for_and_told(
    ask: Ask, tiny_llava: Path, picture: Path, scheme: str
) -> None:
    asked = (str(tiny_llava), str(picture), QUESTION, "--max-tokens", "4")
    plain, small = ask(*asked), ask(*asked, "--quantise", scheme)
    assert scheme in small["engine"]["weights"] and scheme not in plain["engine"]["weights"]
    assert small["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"]


def test_an_unknown_quantisation_is_refused_before_anything_is_loaded(foveate: Runner, picture: Path) -> None:
    done = foveate("chat", str(picture), QUESTION, "--quantise", "int3")
    assert done.returncode == 2 and "int3" in done.stderr and "int8" in done.stderr
