"""What a client is told of a request that cannot be served: status, field, words, in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from live_server import LiveServer

CHAT = "/v1/chat/completions"
TEXT = [{"role": "user", "content": "Hello"}]


def part(**fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [fields]}]


REFUSED: list[tuple[dict[str, Any], str | None, str, str]] = [
    ({"temprature": 1}, "temprature", "unknown_parameter", "Did you mean 'temperature'?"),
    ({"audio": {}}, "audio", "unsupported_parameter", "no model here speaks or listens"),
    ({"messages": []}, "messages", "invalid_value", "at least 1 item"),
    ({"temperature": "1"}, "temperature", "invalid_value", "valid number"),
    ({"temperature": 3}, "temperature", "invalid_value", "less than or equal to 2"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value", "greater than or equal to 1"),
    ({"max_tokens": 99999}, "max_tokens", "max_tokens_exceeded", "8192 at most"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "invalid_value", "they mean the same"),
    ({"visual_budget": "250%"}, "visual_budget", "invalid_visual_budget", "250%"),
    ({"reducer": "fastvlm"}, "reducer", "invalid_visual_budget", "Did you mean 'fastervlm'?"),
    ({"top_logprobs": 2}, "top_logprobs", "invalid_value", "Set logprobs"),
    ({"stream_options": {}}, "stream_options", "invalid_value", "Set stream"),
    ({"logit_bias": {"dog": 1}}, "logit_bias", "invalid_value", "ids of tokens"),
    ({"logit_bias": {"99999": 1}}, None, "invalid_value", "the vocabulary has 555 tokens"),
    ({"n": 2, "temperature": 0}, None, "invalid_value", "greedy decoding"),
    ({"store": True}, "store", "invalid_value", "it can only be false"),
    ({"messages": [{"role": "usr", "content": ""}]}, "messages[0]", "invalid_value", "'usr'"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_value", ""),
    ({"messages": part(type="text")}, "messages[0].content[0].text", "missing_required_parameter", ""),
    ({"messages": part(type="image", path="/etc/passwd")}, "messages[0].content[0]", "invalid_value", ""),
    (
        {"messages": part(type="image_url", image_url={"url": "data:image/png;base64,AAAA"})},
        "messages[0].content[0]",
        "media_type",
        "not an image",
    ),
    (
        {"messages": [{"role": "user", "content": "word " * 3000}]},
        "messages",
        "context_length_exceeded",
        "1024",
    ),
]


@pytest.mark.parametrize(("fields", "param", "code", "words"), REFUSED)
def test_refused(
    server: LiveServer, fields: dict[str, Any], param: str | None, code: str, words: str
) -> None:
    reply = server.post("/v1/chat/completions", **{"model": "fovea-nano", "messages": TEXT, **fields})
    error = reply.json()["error"]
    assert reply.status_code == 400, error
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")
    assert words in error["message"]
    assert server.nothing_held()


def test_over_long_input_names_both_numbers(client: openai.OpenAI, server: LiveServer) -> None:
    messages: Any = [{"role": "user", "content": "word " * 3000}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="fovea-nano", messages=messages)
    assert caught.value.code == "context_length_exceeded"
    count = server.post("/tokenize", messages=TEXT).json()["count"]
    assert count < 1024 and "1024 tokens" in str(caught.value)


def test_another_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hello"}])
    assert caught.value.code == "model_not_found" and "fovea-nano" in str(caught.value)


def test_files_of_the_server_are_out_of_reach(server: LiveServer) -> None:
    for url in ("/etc/passwd", "file:///etc/passwd", "examples/shapes.png", "~/.ssh/id_rsa"):
        reply = server.chat(part(type="image_url", image_url={"url": url}))
        error = reply.json()["error"]
        assert reply.status_code == 400 and error["param"] == "messages[0].content[0]", url


@pytest.mark.parametrize(
    ("method", "path", "send", "status", "code"),
    [
        ("GET", "/nope", {}, 404, "not_found"),
        ("PUT", "/v1/models", {}, 405, "method_not_allowed"),
        ("POST", CHAT, {"content": b"{x", "headers": {"content-type": "application/json"}}, 400, "invalid_json"),
        ("POST", CHAT, {"content": b"{}", "headers": {"content-type": "text/plain"}}, 400, "invalid_value"),
        ("POST", CHAT, {}, 400, "missing_body"),
        ("GET", "/ready", {"headers": {"host": "evil.example"}}, 403, "unknown_host"),
        ("GET", "/foveate/scene?seed=x", {}, 400, "invalid_value"),
        ("GET", "/v1/models/gpt-5", {}, 404, "model_not_found"),
    ],
)  # fmt: skip
def test_protocol_errors(
    server: LiveServer, method: str, path: str, send: dict[str, Any], status: int, code: str
) -> None:
    reply = server.http.request(method, path, **send)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


def test_a_body_above_the_cap_is_refused(server: LiveServer) -> None:
    reply = server.http.post(
        "/v1/chat/completions", content=b" " * (65 * 2**20), headers={"content-type": "application/json"}
    )
    assert reply.status_code == 413 and reply.json()["error"]["code"] == "request_too_large"


def test_too_many_pictures(server: LiveServer, ask: Callable[..., Any]) -> None:
    reply = server.chat(ask(pictures=17))
    assert reply.status_code == 400 and reply.json()["error"]["code"] == "too_many_images"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, b'{"messages": [{"role": "user", "content": "\\ud800"}]}'),
        (CHAT, b'{"messages": [{"role": "user", "content": "x"}], "user": "\\udfff"}'),
        (CHAT, b'{"messages": [{"role": "user", "content": "x"}], "\\ud800": 1}'),
        ("/v1/completions", b'{"prompt": "\\ud800"}'),
        ("/v1/embeddings", b'{"input": ["\\ud800"]}'),
        ("/v1/responses", b'{"input": "\\ud800"}'),
        ("/tokenize", b'{"prompt": "\\ud800"}'),
        (
            CHAT,
            b'{"messages": [{"role": "user", "content": "x"}], "tools": ' + b"[" * 500 + b"]" * 500 + b"}",
        ),
        (CHAT, b"[" * 100_000),
    ],
)
def test_what_json_can_spell_and_nothing_can_take(server: LiveServer, path: str, body: bytes) -> None:
    reply = server.http.post(path, content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["type"] == "invalid_request_error"
