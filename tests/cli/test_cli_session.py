"""The interactive session on a real terminal; the fake model answers with what reached it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal_driver import Terminal, child_environment

from foveate.cli.session import COMMANDS, PROMPT

FAKE = str(Path(__file__).with_name("fake_model.py"))
CTRL_C, CTRL_D = b"\x03", b"\x04"


@pytest.fixture
def terminal(picture: Path) -> Iterator[Terminal]:
    """A session just begun in the folder of `my cat.png`."""
    with Terminal(
        [sys.executable, FAKE, "chat"], environment=child_environment(), folder=str(picture.parent)
    ) as opened:
        greeting = opened.expect(PROMPT)
        assert "fake · 1.5 M parameters · cpu (a fake)" in greeting
        yield opened


def ask(terminal: Terminal, line: str) -> str:
    """Type a line; everything shown until the next prompt, the echoed line left out."""
    terminal.type(line)
    terminal.expect(line)
    return terminal.expect(PROMPT)


def test_history_pictures_and_commands(terminal: Terminal, picture: Path) -> None:
    shown = ask(terminal, "hello there")
    assert "turn 1, 0 pictures: hello there" in shown
    assert "0 image tokens · 2 prompt tokens (3 cached) · 6 new tokens" in shown
    assert "first token" in shown
    shown = ask(terminal, r"my\ cat.png what is this")
    assert "picture my cat.png: 40×30, 16 image tokens" in shown
    assert "turn 2, 1 picture: what is this" in shown
    shown = ask(terminal, f'and "{picture}" as well')
    assert "turn 3, 2 pictures: and as well" in shown
    shown = ask(terminal, "/stats")
    assert "session: 3 answers" in shown
    assert "of 200 tokens" in shown
    assert "attention: a fake" in shown
    assert "visual budget: full by fastervlm" in ask(terminal, "/budget")
    assert "visual budget: 25% by strided" in ask(terminal, "/budget 25% strided")
    assert "8 of 32 image tokens" in ask(terminal, "hello again")
    assert "keeps no token" in ask(terminal, "/budget 0")
    assert "forgotten" in ask(terminal, "/reset")
    assert "turn 1, 0 pictures: hello" in ask(terminal, "hello")
    assert "system prompt: Be brief." in ask(terminal, "/system Be brief.")
    shown = ask(terminal, "/help")
    assert all(command in shown for command in COMMANDS)
    terminal.type("/bye")
    assert terminal.leave() == 0


def test_a_picture_may_be_attached_first(terminal: Terminal, picture: Path) -> None:
    assert "16 image tokens" in ask(terminal, "/image my cat.png")
    assert "turn 1, 1 picture: who is it" in ask(terminal, "who is it")
    # A path alone is a picture for the next question, not a question.
    shown = ask(terminal, picture.as_uri())
    assert "16 image tokens" in shown
    assert "turn" not in shown
    assert "turn 2, 2 pictures: and this" in ask(terminal, "and this")


def test_errors_end_the_turn_and_not_the_session(terminal: Terminal, picture: Path) -> None:
    (picture.parent / "notes.txt").write_text("no picture at all")
    for line, says in [
        ("dog.png who is it", "error: no picture 'dog.png'"),
        ("/image dog.png", "error: no picture 'dog.png'"),
        ("/image notes.txt", "error: notes.txt"),
        ("/image", "error: /image needs a path"),
        ("/rest", "Did you mean '/reset'?"),
        ("word " * 150 + "/ " * 100, "error: The prompt has 250 tokens"),
    ]:
        shown = ask(terminal, line.strip())
        assert says in shown, (line, shown)
        assert "Traceback" not in shown
    assert "turn 1, 0 pictures: still here" in ask(terminal, "still here")
    terminal.press(CTRL_D)
    assert terminal.leave() == 0


def test_ctrl_c_stops_the_answer_only(terminal: Terminal) -> None:
    terminal.type("count slowly")
    terminal.expect("0 1 2")
    terminal.press(CTRL_C)
    shown = terminal.expect(PROMPT)
    assert "stopped by Ctrl-C" in shown
    assert "Traceback" not in shown
    assert "turn 2, 0 pictures: go on" in ask(terminal, "go on")
    time.sleep(0.3)  # readline shows its prompt a moment before it listens for signals
    terminal.press(CTRL_C)  # at the prompt it leaves the line, and tells the way out
    assert "/bye leaves" in terminal.expect(PROMPT)
    terminal.type("/bye")
    assert terminal.leave() == 0


def test_ctrl_c_in_a_single_answer_is_quiet_and_130(tmp_path: Path) -> None:
    command = [sys.executable, FAKE, "chat", "count slowly"]
    with Terminal(command, environment=child_environment(), folder=str(tmp_path)) as opened:
        opened.expect("0 1 2")
        opened.press(CTRL_C)
        assert opened.leave() == 130
        assert "Traceback" not in opened.text
        assert "error" not in opened.text


def test_no_stream_prints_the_answer_whole(tmp_path: Path) -> None:
    command = [sys.executable, FAKE, "chat", "--no-stream", "--max-tokens", "4"]
    with Terminal(command, environment=child_environment(), folder=str(tmp_path)) as opened:
        opened.expect(PROMPT)
        shown = ask(opened, "count slowly")
        assert "0 1 2 3\n" in shown
        assert "cut at --max-tokens" in shown
