"""Sampling parameters, the choice of tokens and the text that is shown, each against its definition."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.engine.request import RequestError, SamplingParameters
from foveate.engine.sampling import TokenSampler, answer_seed
from foveate.engine.text import TextStream
from foveate.models.generation import SamplingOptions, choose

LOGITS = torch.tensor([2.0, 1.0, 0.5, -1.0, 3.0, 0.0])


def sampler(prompt: tuple[int, ...] = (), stops: tuple[int, ...] = (), **fields: Any) -> TokenSampler:
    return TokenSampler(SamplingParameters(**fields), prompt, stops, seed=fields.get("seed") or 0)


def drawn(count: int = 400, **fields: Any) -> set[int]:
    """Ids that come up when the same row is offered many times."""
    one = sampler(**{"temperature": 1.0, **fields})
    return {one.choose(LOGITS)[0] for _ in range(count)}


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("temperature", -0.5, r"temperature is -0.5: it must be 0 \(greedy\) or more"),
        ("temperature", float("nan"), "temperature is nan"),
        ("top_p", 0.0, "top_p is 0.0: it must be above 0 and at most 1"),
        ("top_k", -1, "top_k is -1"),
        ("min_p", 1.5, "min_p is 1.5: it must be 0 to 1"),
        ("max_tokens", 0, "max_tokens is 0: it must be 1 or more"),
        ("min_tokens", 200, r"min_tokens is 200: it must be 0 to max_tokens \(128\)"),
        ("repetition_penalty", 0.0, "repetition_penalty is 0.0"),
        ("presence_penalty", 2.5, "presence_penalty is 2.5: it must be -2 to 2"),
        ("stop", "word", "a tuple of non-empty strings"),
        ("stop", ("",), "a tuple of non-empty strings"),
        ("logit_bias", {3: 101.0}, "-100 to 100 each"),
        ("top_logprobs", 51, "0 to 50"),
        ("n", 3, "n is 3 at temperature 0"),
    ],
)
def test_a_value_out_of_range_is_refused_with_both_numbers(field: str, value: Any, text: str) -> None:
    with pytest.raises(RequestError, match=text):
        SamplingParameters(**{field: value})


def test_greedy_takes_the_largest() -> None:
    assert sampler().choose(LOGITS) == (4, None)


def test_filters_leave_exactly_the_likeliest() -> None:
    probabilities = LOGITS.softmax(0)
    assert drawn(top_k=2) == {4, 0}
    assert drawn(top_p=float(probabilities[4]) - 1e-6) == {4}
    assert drawn(top_p=float(probabilities[4] + probabilities[0]) + 1e-6) == {4, 0, 1}
    assert drawn(min_p=float(probabilities[1] / probabilities[4]) - 1e-6) == {4, 0, 1}
    assert drawn(count=3000) == {0, 1, 2, 3, 4, 5}
    # The nucleus is taken within the top k: of two, 0.5 keeps the likelier alone.
    assert drawn(top_k=2, top_p=0.5) == {4}


def test_draws_follow_the_distribution() -> None:
    one, counts = sampler(temperature=0.5, seed=3), torch.zeros(6)
    for _ in range(4000):
        counts[one.choose(LOGITS)[0]] += 1
    assert torch.allclose(counts / 4000, (LOGITS / 0.5).softmax(0), atol=0.03)


def test_a_seed_draws_what_the_reference_draws() -> None:
    generator = torch.Generator().manual_seed(11)
    options = SamplingOptions(temperature=0.9, top_p=0.8)
    one = sampler(temperature=0.9, top_p=0.8, seed=11)
    rows = torch.randn(50, 30, generator=torch.Generator().manual_seed(1))
    assert [one.choose(row)[0] for row in rows] == [choose(row, options, generator) for row in rows]


def test_a_temperature_next_to_zero_is_greedy() -> None:
    for temperature in (5e-324, 1e-310, 1e-30):
        assert drawn(temperature=temperature) == {4}
        generator = torch.Generator().manual_seed(0)
        assert choose(LOGITS, SamplingOptions(temperature=temperature), generator) == 4


def test_answers_of_one_request_have_seeds_of_their_own() -> None:
    assert answer_seed(5, 0) == 5
    assert len({answer_seed(5, index) for index in range(100)}) == 100


def test_penalties_by_hand() -> None:
    one = sampler(prompt=(0, 3), repetition_penalty=2.0)
    adjusted = one._adjusted(LOGITS)
    assert adjusted.tolist() == [1.0, 1.0, 0.5, -2.0, 3.0, 0.0]
    assert LOGITS[0] == 2.0, "the caller's row was changed"
    one = sampler(presence_penalty=0.5, frequency_penalty=0.25, logit_bias={4: -1.5})
    assert [one.choose(LOGITS)[0] for _ in range(2)] == [0, 4]  # 2.0 beats 1.5; then 1.25 does not
    assert one._adjusted(LOGITS).tolist() == pytest.approx([1.25, 1.0, 0.5, -1.0, 0.75, 0.0])


def test_min_tokens_bans_stops_and_bias_cannot_bring_them_back() -> None:
    one = sampler(stops=(4,), min_tokens=2, logit_bias={4: 100.0})
    assert [one.choose(LOGITS)[0] for _ in range(3)] == [0, 0, 4]


def test_logprobs_are_of_the_models_own_distribution() -> None:
    one = sampler(top_logprobs=2, logit_bias={1: 50.0}, temperature=2.0)
    token, logprob = one.choose(LOGITS)
    expected = LOGITS.double().log_softmax(0)
    assert token == 1 and logprob is not None
    assert logprob.logprob == pytest.approx(float(expected[1]))
    assert [pair[0] for pair in logprob.top] == [4, 0]
    assert logprob.top[0][1] == pytest.approx(float(expected[4]))


def test_a_constraint_limits_the_choice() -> None:
    seen: list[int] = []
    constraint = SimpleNamespace(
        allowed=lambda: torch.tensor([False, True, False, True, False, False]), advance=seen.append
    )
    one = TokenSampler(SamplingParameters(), (), (), seed=0, constraint=constraint)
    assert one.choose(LOGITS)[0] == 1 and seen == [1]


class ByteTokenizer:
    """Ids are bytes."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return bytes(ids).decode("utf-8", errors="replace")


def show(text: str, stops: tuple[str, ...], **fields: Any) -> tuple[list[str], bool]:
    """Pieces shown when the text comes byte by byte, and whether it was stopped."""
    stream, pieces = TextStream(ByteTokenizer(), stops, **fields), []
    for byte in text.encode():
        piece, stopped = stream.push(byte)
        pieces.append(piece)
        if stopped:
            return pieces, True
    piece, stopped = stream.flush()
    return [*pieces, piece], stopped


def test_a_stop_string_over_many_tokens_is_never_shown() -> None:
    pieces, stopped = show("one\n\nUser: two", ("\n\nUser:",))
    assert stopped and "".join(pieces) == "one"
    pieces, stopped = show("a\n\nUse a pen", ("\n\nUser:",))
    assert not stopped and "".join(pieces) == "a\n\nUse a pen"
    pieces, stopped = show("xay", ("ay", "a"))
    assert stopped and "".join(pieces) == "x"
    assert "".join(show("one END two", ("END",), include_stop=True)[0]) == "one END"
    stream = TextStream(ByteTokenizer(), ("b",))
    assert [stream.push(byte, may_stop=False) for byte in b"ab"] == [("a", False), ("b", False)]


@settings(max_examples=200, deadline=None)
@given(st.text("abé\n", max_size=12), st.lists(st.text("abé\n", min_size=1, max_size=3), max_size=3))
def test_shown_text_is_the_text_before_the_first_stop(text: str, stops: list[str]) -> None:
    pieces, stopped = show(text, tuple(stops))
    # Byte by byte: the stop that is complete first wins, and of those the one that began first.
    ends = sorted((text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text)
    expected = text[: ends[0][1]] if ends else text
    assert stopped == bool(ends)
    assert "".join(pieces) == expected
    assert "\ufffd" not in "".join(pieces)
