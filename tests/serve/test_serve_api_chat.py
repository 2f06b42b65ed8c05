"""/v1/chat/completions through the official client: answers, streams, usage, trace, cancelling, a full queue."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from live_server import PICTURE, LiveServer, live_server
from PIL import Image

from foveate.engine import Engine, EngineConfig, SamplingParameters, VisualBudget
from foveate.media import open_image

QUESTIONS = ("How many objects are there?", "Is there a red circle?", "List every object with its place.")
LONG = {"ignore_eos": True, "max_tokens": 700}  # fovea-nano's context is 1,024 tokens


@pytest.fixture(scope="session")
def engine(model: Any) -> Engine:
    return Engine(model, EngineConfig(max_sequences=2, kv_blocks=128))


def expected(engine: Engine, question: str, budget: str | None = None, **parameters: Any) -> str:
    """What the bare engine answers."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    [answer] = engine.generate(
        [{"role": "user", "content": content}],
        SamplingParameters(**parameters),
        images=[PICTURE],
        visual=None if budget is None else VisualBudget(budget=budget),
    )
    return answer.text


@pytest.mark.parametrize("budget", [None, "25%"])
def test_answers_are_the_engines(
    client: openai.OpenAI, engine: Engine, ask: Callable[..., Any], budget: str | None
) -> None:
    extra = {} if budget is None else {"visual_budget": budget}
    for question in QUESTIONS:
        reply = client.chat.completions.create(model="fovea-nano", messages=ask(question), extra_body=extra)
        assert reply.choices[0].message.content == expected(engine, question, budget)
        assert reply.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_stream_is_the_whole_in_pieces(
    client: openai.OpenAI, ask: Callable[..., Any], question: str
) -> None:
    whole = client.chat.completions.create(
        model="fovea-nano", messages=ask(question), max_tokens=40, extra_body={"ignore_eos": True}
    )
    chunks = list(
        client.chat.completions.create(
            model="fovea-nano",
            messages=ask(question),
            max_tokens=40,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    words = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(words) == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    usage = chunks[-1].usage
    assert usage is not None and whole.usage is not None and not chunks[-1].choices
    assert (usage.completion_tokens, usage.prompt_tokens) == (40, whole.usage.prompt_tokens)
    assert len({chunk.id for chunk in chunks}) == 1


def test_raw_events_end_with_done(server: LiveServer, ask: Callable[..., Any]) -> None:
    reply = server.chat(ask(), stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = reply.text.strip().split("\n\n")
    assert all(event.startswith("data: ") for event in events) and events[-1] == "data: [DONE]"
    told = [json.loads(event[6:]) for event in events[:-1]]
    assert {one["object"] for one in told} == {"chat.completion.chunk"}
    assert "usage" not in told[-1]


def test_usage_headers_and_trace_tell_what_was_kept(server: LiveServer, ask: Callable[..., Any]) -> None:
    for stream in (False, True):
        reply = server.chat(ask(pictures=2), visual_budget="25%", foveate_trace=True, stream=stream)
        told = json.loads(reply.text.strip().split("\n\n")[-2][6:]) if stream else reply.json()
        assert told["usage"]["image_tokens"] == 288 and told["usage"]["image_tokens_kept"] == 72
        assert reply.headers["x-foveate-image-tokens"] == "288"
        assert reply.headers["x-foveate-image-tokens-kept"] == "72"
        trace = told["foveate_trace"]
        assert [image["index"] for image in trace["images"]] == [0, 1]
        image = trace["images"][0]
        assert (image["width"], image["height"], image["grid"]) == (336, 336, [12, 12])
        assert image["digest"] == open_image(PICTURE).digest
        assert (image["tokens"], image["tokens_kept"]) == (144, 36)
        assert (image["method"], image["budget"]) == ("fastervlm", "25%")
        [tile] = image["tiles"]
        assert tile["box"] == [0, 0, 336, 336] and tile["grid"] == [12, 12]
        assert len(tile["kept"]) == 36 and len(tile["scores"]) == 144
        lowest = min(tile["scores"][token] for token in tile["kept"])
        assert all(score <= lowest for at, score in enumerate(tile["scores"]) if at not in tile["kept"])
        times = trace["times"]
        assert set(times) == {"queue", "preprocess", "encode", "prefill", "decode", "first_token", "total"}
        assert all(value >= 0 for value in times.values()) and times["first_token"] <= times["total"]


def test_a_full_budget_traces_every_token(server: LiveServer, ask: Callable[..., Any]) -> None:
    [image] = server.chat(ask(), foveate_trace=True).json()["foveate_trace"]["images"]
    assert image["tokens"] == image["tokens_kept"] == 144
    assert image["tiles"][0]["kept"] == list(range(144))


def test_a_wide_picture_of_a_padding_model_reaches_beyond_its_edges(server: LiveServer) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (200, 100), "red").save(buffer, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": uri}}]}
    [image] = server.chat([message], foveate_trace=True, max_tokens=2).json()["foveate_trace"]["images"]
    assert image["tiles"][0]["box"] == [0, -50, 200, 150]
    assert (image["width"], image["height"]) == (200, 100)
    assert (image["processed_width"], image["processed_height"]) == (168, 168)


@pytest.mark.parametrize(("detail", "kept"), [("low", 36), ("high", 144), ("auto", 144)])
def test_detail_is_a_budget(server: LiveServer, picture: str, detail: str, kept: int) -> None:
    part = {"type": "image_url", "image_url": {"url": picture, "detail": detail}}
    reply = server.chat(
        [{"role": "user", "content": [part, {"type": "text", "text": "What?"}]}], max_tokens=1
    )
    assert reply.json()["usage"]["image_tokens_kept"] == kept


def test_logprobs_seeds_and_several_answers(client: openai.OpenAI, ask: Callable[..., Any]) -> None:
    drawn = [
        client.chat.completions.create(
            model="fovea-nano",
            messages=ask(),
            n=3,
            seed=seed,
            temperature=2,
            max_tokens=12,
            extra_body={"ignore_eos": True},
        )
        for seed in (1, 1, 2)
    ]
    texts = [[choice.message.content for choice in reply.choices] for reply in drawn]
    assert texts[0] == texts[1] != texts[2]
    assert [choice.index for choice in drawn[0].choices] == [0, 1, 2] and len(set(texts[0])) > 1
    reply = client.chat.completions.create(
        model="fovea-nano", messages=ask(), logprobs=True, top_logprobs=3, max_tokens=4
    )
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    first = logprobs.content[0]
    assert len(first.top_logprobs) == 3 and first.top_logprobs[0].token == first.token
    assert first.logprob == first.top_logprobs[0].logprob >= first.top_logprobs[1].logprob
    streamed = client.chat.completions.create(
        model="fovea-nano", messages=ask(), logprobs=True, top_logprobs=3, max_tokens=4, stream=True
    )
    pieces = [chunk.choices[0].logprobs for chunk in streamed if chunk.choices and chunk.choices[0].logprobs]
    assert [piece.content[0] for piece in pieces if piece.content] == logprobs.content


def test_turns_roles_and_stop_strings(client: openai.OpenAI, ask: Callable[..., Any]) -> None:
    history = [
        {"role": "system", "content": "Answer briefly."},
        *ask(),
        {"role": "assistant", "content": "5"},
        {"role": "user", "content": "Is there a square?"},
    ]
    reply = client.chat.completions.create(model="fovea-nano", messages=history)
    assert reply.choices[0].message.content
    listing = "List every object with its place."
    text = (
        client.chat.completions.create(model="fovea-nano", messages=ask(listing)).choices[0].message.content
    )
    assert text is not None and len(text) > 20
    stop = text[9:12]
    cut = client.chat.completions.create(model="fovea-nano", messages=ask(listing), stop=[stop])
    assert cut.choices[0].message.content == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_a_reader_that_leaves_frees_its_blocks(server: LiveServer, ask: Callable[..., Any]) -> None:
    body, statistics = {"messages": ask(), **LONG}, server.front.engine.engine.statistics
    aborted = statistics().aborted
    with server.slowed(0.02):
        with server.http.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as reply:
            next(reply.iter_lines())
        server.eventually(server.nothing_held)
        assert statistics().aborted == aborted + 1
        with pytest.raises(httpx.ReadTimeout):
            server.http.post("/v1/chat/completions", json=body, timeout=0.5)
        server.eventually(lambda: statistics().aborted == aborted + 2)
    server.eventually(server.nothing_held)
    server.front.engine.engine.check_integrity()


def test_a_full_queue_is_told_at_once_with_a_time(model: Any, ask: Callable[..., Any]) -> None:
    config = EngineConfig(max_sequences=1, kv_blocks=128)
    with live_server(model, config, max_queue=1) as busy, ThreadPoolExecutor(2) as pool:
        with busy.slowed(0.02):
            body = {"messages": ask(), "ignore_eos": True, "max_tokens": 100}
            held = [pool.submit(busy.post, "/v1/chat/completions", **body) for _ in range(2)]
            busy.eventually(lambda: busy.front.in_flight == 2)
            refused = busy.chat(ask())
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "queue_full")
        assert "2 requests are in flight" in error["message"]
        assert [one.result().status_code for one in held] == [200, 200]
        assert busy.chat(ask(), max_tokens=1).status_code == 200
        assert busy.front.refusals.counts == {"queue_full": 1}
