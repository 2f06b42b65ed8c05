"""The row of turned keys: the same stream as gathering and turning all of them in every step, with far less of it."""

from __future__ import annotations

import pytest
import tiny
import torch

from foveate.decode.streaming import StreamingSession, StreamSettings
from foveate.decode.streaming.attention import UnrotatedPages
from foveate.decode.streaming.state import StreamState
from foveate.models import load

SETTINGS = {
    "vision_seconds": 2,
    "text_tokens": 6,
    "sink_tokens": 16,
    "reply_tokens": 4,
    "question_tokens": 40,
    "answer_tokens": 6,
    "page_tokens": 4,
}


def opened(model, **changes):
    return StreamingSession(
        model, StreamSettings(**{**SETTINGS, **changes}), width=56, height=56, prompt="what"
    )


def listen(monkeypatch):
    """Every row of logits from now on: (with a row, by the reference)."""
    heard, plain = ([], []), StreamState.extend

    def extend(self, pieces, embeds=None):
        logits = plain(self, pieces, embeds)
        heard[self.row is None].append(logits)
        return logits

    monkeypatch.setattr(StreamState, "extend", extend)
    return heard


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "gemma3"])
def test_a_stream_with_a_row_equals_the_reference(tmp_path, family, monkeypatch):
    """Seconds that leave, pictures that come, replies and questions: every step's logits, and the questions'."""
    model = load(tiny.build_tiny(family, tmp_path / family), device="cpu")
    with_row, reference = opened(model), opened(model)
    reference._state.row = None
    heard = listen(monkeypatch)
    for second in range(6):
        image = tiny.picture(56, 56, seed=second)
        said, expected = (session.push_frame(image, second) for session in (with_row, reference))
        assert said.reply.token_ids == expected.reply.token_ids
        for question in ("how many", "what is"):
            one, other = (session.ask(question) for session in (with_row, reference))
            assert one.token_ids == other.token_ids and one.token_ids
    assert said.evicted > 0 and len(heard[0]) == len(heard[1]) > 12
    for one, other in zip(*heard, strict=True):
        assert torch.allclose(one, other, atol=1e-5), (one - other).abs().max()
    with_row.close()
    reference.close()


@pytest.mark.parametrize("positions", ["contiguous", "absolute"])
def test_keys_are_gathered_once_a_second_however_long_the_reply(tmp_path, monkeypatch, positions):
    model = load(tiny.build_tiny("llava", tmp_path / "llava"), device="cpu")
    layers = len(model.language_model.layers)
    session = opened(model, positions=positions, longest_seconds=20)
    read, gathered = UnrotatedPages.read, []

    def counted(self, layer, slots):
        gathered.append(layer)
        return read(self, layer, slots)

    monkeypatch.setattr(UnrotatedPages, "read", counted)
    for second in range(5):
        gathered.clear()
        report = session.push_frame(tiny.picture(56, 56, seed=second), second)
        # Behind the first second not even once until something leaves: a turn stands behind what was there.
        expected = layers if report.evicted or not second else 0
        assert len(gathered) == expected
        session.ask("how many")
        assert len(gathered) == expected, "a question goes on behind its stream"
    assert report.evicted and len(report.reply.token_ids) > 1
    session.close()
