"""`--speculate`: the same answer, what guessing brought, and names that mean nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foveate.cli.conversation import Speculated
from foveate.cli.main import run

QUESTION = "how many red squares are there"
Chat = Callable[..., dict[str, Any]]


@pytest.fixture
def chat(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_llava: Path) -> Chat:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def ask(*words: str) -> dict[str, Any]:
        code = run(
            ["chat", "--json", str(tiny_llava), QUESTION, "--max-tokens", "24", "--dtype", "float32", *words]
        )
        shown = capsys.readouterr()
        assert (code, shown.err) == (0, ""), shown.err
        reply: dict[str, Any] = json.loads(shown.out)
        return reply

    return ask


def test_the_answer_is_the_same_and_the_statistics_say_what_it_took(
    chat: Chat, tiny_llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = chat()
    assert plain["speculation"] is None
    for draft in ("auto", "ngram", str(tiny_llava)):
        reply = chat("--speculate", draft)
        assert reply["answer"] == plain["answer"] and reply["usage"] == plain["usage"]
        told = reply["speculation"]
        assert told["draft"] == ("model" if draft == str(tiny_llava) else "ngram")
        assert told["decode_passes"] + told["accepted_tokens"] >= plain["usage"]["completion_tokens"] - 1
        assert told["plain_passes"] <= told["decode_passes"]
    # A model drafts for itself: no guess is wrong but those behind the end.
    wrong = told["draft_tokens"] - told["accepted_tokens"]
    assert told["accepted_tokens"] > 0 and (wrong == 0 if reply["finish_reason"] == "length" else wrong <= 4)
    assert told["accepted_length"] > 1
    monkeypatch.setenv("FOVEATE_SPECULATE", "ngram")
    assert chat()["speculation"]["draft"] == "ngram"


def test_a_name_that_is_no_draft_is_refused_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str], tiny_llava: Path, tmp_path: Path
) -> None:
    for verb in (["chat", str(tiny_llava), QUESTION], ["serve", str(tiny_llava)]):
        assert run([*verb, "--speculate", "ngrm"]) == 2
        assert "no draft 'ngrm'" in (shown := capsys.readouterr().err) and "'ngram'" in shown
    assert run(["chat", str(tiny_llava), QUESTION, "--speculate", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert "no draft" in shown and str(tmp_path) in shown


def facts(**changes: Any) -> Speculated:
    told: dict[str, Any] = {
        "draft": "ngram",
        "accepted_length": 2.5,
        "decode_passes": 10,
        "plain_passes": 4,
        "unpaid_passes": 0,
        "draft_tokens": 20,
        "accepted_tokens": 15,
        "speedup": 1.75,
    }
    return Speculated(**{**told, **changes})


def test_the_line_below_an_answer() -> None:
    assert facts().summary() == "2.50 tokens a pass by ngram, about 1.8 times as fast"
    assert facts(speedup=None).summary() == "2.50 tokens a pass by ngram"
    assert facts(unpaid_passes=3).summary().endswith("(3 of 10 passes plain: drafts would not pay)")
    assert facts(draft_tokens=0).summary() == "ngram: it had no guess"
    assert facts(draft_tokens=0, unpaid_passes=9).summary() == "ngram: it would not pay"
