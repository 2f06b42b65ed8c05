"""The other endpoints through the official client: completions, embeddings, files, and a schema that covers all."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import openai
import pytest
from live_server import PICTURE, LiveServer

from foveate.engine import Engine, EngineConfig, SamplingParameters
from foveate.models.records import Prompt
from foveate.serve.errors import ApiError
from foveate.serve.files import FileStore

TEXT = "<user>How many"


def test_completions_go_on_with_text_and_tokens(
    client: openai.OpenAI, server: LiveServer, model: Any
) -> None:
    ids = server.post("/tokenize", prompt=TEXT, add_special_tokens=model.adds_special_tokens).json()["tokens"]
    engine = Engine(model, EngineConfig(max_sequences=1, kv_blocks=64))
    prompt = Prompt(token_ids=ids, media=[], spans=[], text=TEXT)
    [expected] = engine.generate(prompt, SamplingParameters(max_tokens=12, ignore_end=True))
    for given in (TEXT, ids):
        reply = client.completions.create(
            model="fovea-nano", prompt=given, max_tokens=12, extra_body={"ignore_eos": True}
        )
        assert reply.choices[0].text == expected.text and reply.choices[0].finish_reason == "length"
    pieces = list(
        client.completions.create(
            model="fovea-nano",
            prompt=TEXT,
            max_tokens=12,
            stream=True,
            logprobs=2,
            extra_body={"ignore_eos": True},
        )
    )
    assert "".join(piece.choices[0].text for piece in pieces) == expected.text
    whole = client.completions.create(
        model="fovea-nano", prompt=TEXT, max_tokens=12, logprobs=2, extra_body={"ignore_eos": True}
    ).choices[0]
    assert whole.logprobs is not None and len(whole.logprobs.tokens or []) == 12
    offsets = [one for piece in pieces for one in (piece.choices[0].logprobs.text_offset or [])]  # type: ignore[union-attr]
    assert offsets == whole.logprobs.text_offset
    assert all(len(top) <= 2 for top in whole.logprobs.top_logprobs or [])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": [555]}, "has token 555"),
        ({"prompt": [6]}, "place cannot stand alone"),
        ({"prompt": TEXT, "echo": True}, "echo"),
        ({"prompt": ["a", "b"]}, "prompt[0]"),
        ({"prompt": TEXT, "visual_budget": "25%"}, "takes no pictures"),
    ],
)
def test_completions_refuse(server: LiveServer, fields: dict[str, Any], words: str) -> None:
    reply = server.post("/v1/completions", **fields)
    assert reply.status_code == 400 and words in reply.json()["error"]["message"]


def test_embeddings_of_texts_and_pictures(client: openai.OpenAI, server: LiveServer, picture: str) -> None:
    texts = ["a red circle", "a blue circle", "Read the table."]
    vectors = [one.embedding for one in client.embeddings.create(model="fovea-nano", input=texts).data]
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-4) for vector in vectors)

    def alike(first: list[float], second: list[float]) -> float:
        return sum(a * b for a, b in zip(first, second, strict=True))

    assert alike(vectors[0], vectors[1]) > alike(vectors[0], vectors[2])
    part = {"type": "image_url", "image_url": {"url": picture}}
    told = server.post("/v1/embeddings", input=["a red circle", part]).json()
    assert told["data"][0]["embedding"] == pytest.approx(vectors[0], abs=1e-5)  # alone or not
    assert len(told["data"][1]["embedding"]) == len(vectors[0])
    assert told["usage"]["image_tokens"] == 144
    refused = server.post("/v1/embeddings", input=["fine", "word " * 3000])
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "input[1]"


def test_a_picture_is_uploaded_once(
    client: openai.OpenAI, server: LiveServer, ask: Callable[..., Any]
) -> None:
    file = client.files.create(file=PICTURE, purpose="vision")
    assert file.id in [one.id for one in client.files.list().data]
    assert client.files.content(file.id).read() == PICTURE.read_bytes()
    inline = server.chat(ask()).json()["choices"][0]["message"]["content"]
    for part in (
        {"type": "file", "file": {"file_id": file.id}},
        {"type": "image_url", "image_url": {"url": file.id}},
    ):
        content = [part, {"type": "text", "text": "How many objects are there?"}]
        reply = server.chat([{"role": "user", "content": content}]).json()
        assert reply["choices"][0]["message"]["content"] == inline
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    with pytest.raises(openai.BadRequestError):
        client.files.create(file=("page.png", b"<html>"), purpose="vision")


def test_the_store_is_bounded_in_bytes_and_time_and_apart_by_owner() -> None:
    now = [0.0]
    store = FileStore(capacity=100, seconds=60, clock=lambda: now[0])

    def add(size: int, owner: str = "a") -> str:
        return store.add(b"x" * size, name="n", purpose="vision", owner=owner).id

    first, second = add(40), add(40, "b")
    assert [file.id for file in store.of("a")] == [first]
    with pytest.raises(ApiError):
        store.get(second, owner="a")
    third = add(40)
    with pytest.raises(ApiError):
        store.get(first, owner="a")  # the oldest made room
    assert store.bytes == 80
    with pytest.raises(ApiError) as caught:
        add(101)
    assert caught.value.status == 413 and store.bytes == 80
    now[0] = 60
    with pytest.raises(ApiError):
        store.get(third, owner="a")
    assert store.bytes == 0 and not store.of("a") and not store.of("b")


def test_responses_whole_and_streamed(client: openai.OpenAI, server: LiveServer, picture: str) -> None:
    question = "List every object with its place."
    parts: Any = [
        {"type": "input_image", "image_url": picture, "detail": "low"},
        {"type": "input_text", "text": question},
    ]
    turns: Any = [{"role": "user", "content": parts}]
    chat = server.chat(
        [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": picture}},
                    {"type": "text", "text": question},
                ],
            }
        ],
        visual_budget="25%",
    ).json()
    whole = client.responses.create(model="fovea-nano", input=turns)
    assert whole.output_text == chat["choices"][0]["message"]["content"]
    assert whole.status == "completed" and whole.usage is not None
    assert whole.usage.input_tokens == chat["usage"]["prompt_tokens"]
    assert whole.usage.image_tokens_kept == 36  # type: ignore[attr-defined]
    events = list(client.responses.create(model="fovea-nano", input=turns, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text == events[-1].response.output_text and len(deltas) > 5
    with client.responses.stream(model="fovea-nano", input=turns) as stream:
        assert stream.get_final_response().output_text == whole.output_text
    follow: Any = [*turns, whole.output[0].model_dump(), {"role": "user", "content": "How many?"}]
    short = client.responses.create(
        model="fovea-nano", input=follow, instructions="Be brief.", max_output_tokens=1
    )
    assert short.status == "incomplete" and short.incomplete_details is not None
    assert short.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "not stored"),
        ({"store": True}, "store", "it can only be false"),
        ({"tools": []}, "tools", "Unknown field"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0]",
            "either",
        ),
    ],
)
def test_responses_refuse(server: LiveServer, fields: dict[str, Any], param: str, words: str) -> None:
    reply = server.post("/v1/responses", **{"input": "Hello", **fields})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, param) and words in error["message"]
