"""An engine loop that breaks: who was in it goes on or is told, the next engine serves, /ready says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from live_server import LiveServer, live_server

from foveate.engine import EngineConfig, SamplingParameters
from foveate.serve.front import EngineFront
from foveate.serve.jobs import Job
from foveate.serve.recovery import can_go_on

CONFIG = EngineConfig(max_sequences=4, kv_blocks=256)
LISTING = "List every object with its place."


def break_after(front: EngineFront, steps: int) -> None:
    """The loop of the engine that runs now raises after so many steps."""
    engine, left = front.engine, [steps]
    deliver = engine._deliver

    def breaking(outputs: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("broken by a test")
        deliver(outputs)

    engine._deliver = breaking  # type: ignore[method-assign]


def text_of(reply: Any) -> str:
    events = [line[6:] for line in reply.text.split("\n\n") if line.startswith("data: {")]
    return "".join(
        choice["delta"].get("content") or "" for event in events for choice in json.loads(event)["choices"]
    )


@pytest.mark.parametrize("budget", ["full", "25%"])
def test_a_greedy_stream_goes_on_where_it_was(model: Any, ask: Callable[..., Any], budget: str) -> None:
    with live_server(model, CONFIG) as server:
        whole = server.chat(ask(LISTING), visual_budget=budget).json()
        text = whole["choices"][0]["message"]["content"]
        assert len(text) > 20
        break_after(server.front, 9)
        fields = {"visual_budget": budget, "stream": True, "foveate_trace": True}
        reply = server.chat(ask(LISTING), **fields)
        assert text_of(reply) == text and '"error"' not in reply.text
        last = json.loads(reply.text.strip().split("\n\n")[-2][6:])
        for name in ("prompt_tokens", "completion_tokens", "image_tokens", "image_tokens_kept"):
            assert last["usage"][name] == whole["usage"][name]
        assert last["foveate_trace"]["images"][0]["tokens_kept"] == whole["usage"]["image_tokens_kept"]
        assert server.front.restarts == 1
        server.eventually(server.nothing_held)
        server.front.engine.engine.check_integrity()
        assert "foveate:engine_restarts_total 1.0" in server.http.get("/metrics").text


def test_a_drawn_answer_is_told_and_those_that_wait_are_served(model: Any, ask: Callable[..., Any]) -> None:
    config = EngineConfig(max_sequences=1, kv_blocks=128)
    with live_server(model, config) as server, ThreadPoolExecutor(2) as pool:
        expected = server.chat(ask()).json()["choices"][0]["message"]["content"]
        with server.slowed(0.02):
            break_after(server.front, 20)
            drawn = pool.submit(
                server.chat, ask(), temperature=1, max_tokens=200, ignore_eos=True, stream=True
            )
            server.eventually(lambda: server.front.engine.engine.statistics().running == 1)
            waiting = pool.submit(server.chat, ask())
            lost = drawn.result()
        error = json.loads(lost.text.strip().split("\n\n")[-1][6:])["error"]
        assert (error["code"], error["type"]) == ("engine_failed", "server_error")
        assert waiting.result().json()["choices"][0]["message"]["content"] == expected
        server.eventually(server.nothing_held)


def test_the_server_is_not_ready_until_the_next_engine_is(
    model: Any, ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_server(model, CONFIG) as server:
        make, told = server.front._make_engine, []

        def watched() -> Any:
            told.append((server.http.get("/ready"), server.chat(ask())))
            return make()

        monkeypatch.setattr(server.front, "_make_engine", watched)
        break_after(server.front, 0)
        assert server.chat(ask()).status_code == 200
        [(probe, refused)] = told
        assert probe.status_code == 503 and probe.json()["reason"] == "the engine is starting"
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) >= 1
        assert server.http.get("/ready").status_code == 200


def test_a_request_that_breaks_every_engine_is_given_up(
    model: Any, ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_server(model, CONFIG) as server:
        break_every_engine(server, monkeypatch)
        reply = server.chat(ask())
        assert reply.status_code == 500 and reply.json()["error"]["code"] == "engine_failed"
        assert server.front.restarts == 3
        monkeypatch.undo()
        server.eventually(lambda: server.http.get("/ready").status_code == 200)


def break_every_engine(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    make = server.front._make_engine

    def broken() -> Any:
        engine = make()

        def breaking(outputs: Any) -> None:
            raise RuntimeError("broken by a test")

        engine._deliver = breaking  # type: ignore[method-assign]
        return engine

    monkeypatch.setattr(server.front, "_make_engine", broken)
    break_after(server.front, 0)


def test_what_looks_back_at_an_answer_cannot_go_on() -> None:
    def job(**parameters: Any) -> Job:
        return Job(prompt=[], parameters=SamplingParameters(**parameters))

    prompt: Any = object()
    assert can_go_on(job(temperature=1), [], None)
    assert can_go_on(job(), [1], prompt) and not can_go_on(job(), [1], None)
    for parameters in (
        {"temperature": 1},
        {"stop": ("x",)},
        {"frequency_penalty": 1},
        {"repetition_penalty": 2},
    ):
        assert not can_go_on(job(**parameters), [1], prompt)
