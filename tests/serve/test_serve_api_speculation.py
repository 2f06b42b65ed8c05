"""A server that speculates: the same replies, also side by side, and what it brought in usage, trace and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from live_server import LiveServer, live_server
from test_serve_api_operation import figures

from foveate.decode.settings import SpeculationSettings
from foveate.engine import EngineConfig

FIELDS = {"max_tokens": 40, "ignore_eos": True}


@pytest.fixture(scope="module")
def speculating(model: Any) -> Iterator[LiveServer]:
    settings = SpeculationSettings(draft="ngram", adaptive=False)
    with live_server(model, EngineConfig(max_sequences=8, kv_blocks=256, speculation=settings)) as one:
        yield one


def test_replies_are_the_same_and_say_what_was_guessed(
    server: LiveServer, speculating: LiveServer, ask: Callable[..., Any]
) -> None:
    plain = server.chat(ask(), foveate_trace=True, **FIELDS).json()
    reply = speculating.chat(ask(), foveate_trace=True, **FIELDS).json()
    assert reply["choices"] == plain["choices"]
    assert plain["foveate_trace"]["speculation"] is None
    told, details = reply["foveate_trace"]["speculation"], reply["usage"]["completion_tokens_details"]
    assert told["draft"] == "ngram" and told["accepted_length"] > 1
    assert told["decode_passes"] + told["accepted_tokens"] == 39
    assert details["accepted_prediction_tokens"] == told["accepted_tokens"] > 0
    assert details["rejected_prediction_tokens"] == told["draft_tokens"] - told["accepted_tokens"]
    assert plain["usage"]["completion_tokens_details"] == {
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    }
    speculating.eventually(speculating.nothing_held)
    after = figures(speculating)
    for name in ("drafts", "draft_tokens", "accepted_tokens"):
        assert after[(f"foveate:spec_decode_num_{name}_total",)] > 0
    assert after[("foveate:spec_decode_num_unpaid_passes_total",)] == 0
    assert figures(server)[("foveate:spec_decode_num_drafts_total",)] == 0


def test_a_request_may_decline(speculating: LiveServer, ask: Callable[..., Any]) -> None:
    reply = speculating.chat(ask(), foveate_trace=True, speculate=False, **FIELDS).json()
    assert reply["choices"] == speculating.chat(ask(), speculate=True, **FIELDS).json()["choices"]
    assert reply["foveate_trace"]["speculation"] is None
    details = reply["usage"]["completion_tokens_details"]
    assert details == {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}


def test_streams_side_by_side_some_given_up(
    server: LiveServer, speculating: LiveServer, ask: Callable[..., Any]
) -> None:
    """Twelve at once, sampled and greedy, a third of them left in the middle: the others are as they should be."""

    def stream(where: LiveServer, number: int, leave: bool) -> str:
        with openai.OpenAI(base_url=f"{where.url}/v1", api_key="none", max_retries=0) as client:
            chunks = client.chat.completions.create(
                model="fovea-nano",
                messages=ask(f"How many objects? {number % 4}", pictures=number % 2),
                max_tokens=30,
                seed=number,
                temperature=0.7 * (number % 3),
                stream=True,
                extra_body={"ignore_eos": True},
            )
            text = ""
            for place, chunk in enumerate(chunks):
                text += chunk.choices[0].delta.content or "" if chunk.choices else ""
                if leave and place == 4:
                    chunks.close()
                    break
            return text

    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda number: stream(speculating, number, number % 3 == 2), range(12)))
    want = [stream(server, number, False) for number in range(12)]
    for number, (text, whole) in enumerate(zip(got, want, strict=True)):
        if number % 3 == 2:
            assert whole.startswith(text)
        else:
            assert text == whole
    speculating.eventually(speculating.nothing_held)
    speculating.front.engine.engine.check_integrity()
