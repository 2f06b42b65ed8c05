"""What whoever runs the server sees: metrics, keys with budgets, logs without contents, the page's endpoints."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from live_server import PICTURE, LiveServer, live_server
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from foveate.engine import EngineConfig, SamplingParameters, StepOutput
from foveate.reduce.registry import METHODS
from foveate.serve.errors import ApiError
from foveate.serve.jobs import Job
from foveate.serve.safety.digests import DigestSettings
from foveate.serve.safety.guard import OutputGuard
from foveate.serve.safety.keys import new_key
from foveate.serve.watching import RequestWatch


def figures(server: LiveServer) -> dict[tuple[str, ...], float]:
    """Every sample by name and labels."""
    text = server.http.get("/metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_what_happened(model: Any, ask: Callable[..., Any]) -> None:
    with live_server(model, EngineConfig(max_sequences=2, kv_blocks=128)) as server:
        before = figures(server)
        assert before[("foveate:num_requests_running",)] == 0
        usage = [server.chat(ask(), visual_budget="25%").json()["usage"] for _ in range(2)]
        server.chat(ask(), temprature=1)
        server.eventually(server.nothing_held)
        after = figures(server)
        assert after[("foveate:prompt_tokens_total",)] == sum(one["prompt_tokens"] for one in usage)
        assert after[("foveate:generation_tokens_total",)] == sum(one["completion_tokens"] for one in usage)
        assert after[("foveate:image_tokens_total",)] == 288
        assert after[("foveate:image_tokens_kept_total",)] == 72
        assert after[("foveate:request_success_total", "stop")] == 2
        for stage in ("queue", "preprocess", "encode", "prefill", "decode"):
            assert after[(f"foveate:request_{stage}_time_seconds_count",)] == 2
        assert after[("foveate:time_to_first_token_seconds_count",)] == 2
        assert after[("foveate:time_to_first_token_seconds_sum",)] > 0
        assert after[("foveate:encoder_cache_hits_total",)] == 1
        states = [after[("foveate:kv_blocks", state)] for state in ("used", "cached", "free")]
        assert sum(states) == 128 and states[0] == 0
        server.chat([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}])
        assert figures(server)[("foveate:requests_refused_total", "scheme", "media")] == 1


def test_keys_let_callers_in_and_hold_them_to_their_budget(
    model: Any, tmp_path: Path, ask: Callable[..., Any]
) -> None:
    rich, poor = new_key("rich"), new_key("poor")
    file = tmp_path / "keys.toml"
    file.write_text(f"{rich.entry}\n{poor.entry}output_tokens_per_minute = 50\n", encoding="utf-8")
    config = EngineConfig(max_sequences=2, kv_blocks=128)
    with live_server(model, config, api_key_file=file) as server:
        for key in ("none", rich.key[:-1] + ("A" if rich.key[-1] != "A" else "B")):
            reply = server.http.get("/v1/models", headers={"authorization": f"Bearer {key}"})
            assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")
        assert server.http.get("/v1/models").headers["www-authenticate"] == "Bearer"
        assert server.http.get("/ready").status_code == server.http.get("/metrics").status_code == 200
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=rich.key, max_retries=0) as client:
            assert client.models.list().data[0].id == "fovea-nano"
            first = client.chat.completions.create(model="fovea-nano", messages=ask())
            again = client.chat.completions.create(model="fovea-nano", messages=ask())
        assert again.usage is not None and again.usage.prompt_tokens_details is not None
        assert again.usage.prompt_tokens_details.cached_tokens
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=poor.key, max_retries=0) as client:
            reply = client.chat.completions.create(model="fovea-nano", messages=ask(), max_tokens=40)
            assert reply.choices[0].message.content == first.choices[0].message.content
            # Another caller's cached prefix would tell what it asked.
            assert reply.usage is not None and reply.usage.prompt_tokens_details is not None
            assert reply.usage.prompt_tokens_details.cached_tokens == 0
            # Two tokens were written, so that 48 of the 50 are left.
            with pytest.raises(openai.RateLimitError) as caught:
                client.chat.completions.create(model="fovea-nano", messages=ask(), max_tokens=50)
            assert caught.value.code == "output_tokens_per_minute"
            assert int(caught.value.response.headers["retry-after"]) >= 1
            client.chat.completions.create(model="fovea-nano", messages=ask(), max_tokens=40)
        refused = figures(server)
        assert refused[("foveate:requests_refused_total", "output_tokens_per_minute", "key poor")] == 1


def test_logs_tell_counts_and_no_contents(
    server: LiveServer, caplog: pytest.LogCaptureFixture, picture: str
) -> None:
    secret = "the treasure lies below the red circle"
    content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": secret}]
    with caplog.at_level(logging.DEBUG):
        assert server.chat([{"role": "user", "content": content}], max_tokens=4).status_code == 200
        server.chat([{"role": "user", "content": secret * 300}])
        server.eventually(server.nothing_held)
    text = caplog.text
    assert "144 of 144 image tokens kept" in text
    assert "treasure" not in text and picture[40:80] not in text


def test_pictures_from_the_media_folder_only(model: Any, tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "shapes.png").write_bytes(PICTURE.read_bytes())
    (tmp_path / "secret.png").write_bytes(PICTURE.read_bytes())
    config = EngineConfig(max_sequences=1, kv_blocks=128)

    def ask(server: LiveServer, path: Path) -> int:
        part = {"type": "image_url", "image_url": {"url": f"file://{path}"}}
        return server.chat([{"role": "user", "content": [part]}], max_tokens=1).status_code

    with live_server(model, config, media_folder=tmp_path / "media") as server:
        assert ask(server, tmp_path / "media" / "shapes.png") == 200
        assert ask(server, tmp_path / "secret.png") == 400
        assert ask(server, tmp_path / "media" / ".." / "secret.png") == 400


def test_the_page_gets_reducers_and_scenes(server: LiveServer) -> None:
    told = server.http.get("/foveate/reducers").json()
    assert {info.name for info in METHODS} <= {one["name"] for one in told["data"]}
    assert told["default"] == "fastervlm" and all(one["description"] for one in told["data"])
    first, same, other = (
        server.http.get("/foveate/scene", params={"seed": seed, "difficulty": 2}).json() for seed in (3, 3, 4)
    )
    assert first == same and first["image"] != other["image"]
    data = base64.b64decode(first["image"].partition(",")[2])
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (first["width"], first["height"])
    assert first["question"] and first["answer"]


def test_web_pages_of_others_are_kept_out_unless_named(model: Any) -> None:
    config = EngineConfig(max_sequences=1, kv_blocks=128)
    with live_server(
        model, config, allowed_origins=("https://app.example",), allowed_hosts=("vlm.example",)
    ) as server:
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
        for origin, let_in in (("https://app.example", True), ("https://evil.example", False)):
            reply = server.http.options("/v1/chat/completions", headers={"origin": origin, **asked})
            assert (reply.headers.get("access-control-allow-origin") == origin) is let_in
        assert server.http.get("/ready", headers={"host": "vlm.example:80"}).status_code == 200
        assert server.http.get("/ready", headers={"host": "evil.example"}).status_code == 403


def test_tokens_and_back(server: LiveServer) -> None:
    told = server.post("/tokenize", prompt="two red squares", return_token_strs=True).json()
    assert told["count"] == len(told["tokens"]) == len(told["token_strs"])
    body = told["tokens"][-told["count"] :]
    assert "two red squares" in server.post("/detokenize", tokens=body).json()["prompt"]
    assert server.post("/detokenize", tokens=[555]).status_code == 400
    assert server.post("/tokenize").status_code == 400


def test_an_answer_that_goes_in_circles_is_ended_with_a_reason(model: Any) -> None:
    config = EngineConfig(max_sequences=2, kv_blocks=128)
    body = {"prompt": "two red", "max_tokens": 250}  # fovea-nano says "no" to this for ever
    with live_server(model, config) as server:
        told = server.post("/v1/completions", **body).json()
        [notice] = told["foveate_notices"]
        assert notice["reason"] == "periodic" and "over and over" in notice["detail"]
        assert told["choices"][0]["finish_reason"] == "length"
        assert 128 <= told["usage"]["completion_tokens"] < 250
        streamed = server.post("/v1/completions", stream=True, **body).text
        last = json.loads(streamed.strip().split("\n\n")[-2][6:])
        assert last["foveate_notices"] == [notice]
        text = "".join(
            choice["text"]
            for event in streamed.strip().split("\n\n")[:-1]
            for choice in json.loads(event[6:])["choices"]
        )
        assert text == told["choices"][0]["text"]
        server.eventually(server.nothing_held)
        after = figures(server)
        assert after[("foveate:answers_cut_total", "periodic")] == 2
        assert after[("foveate:request_success_total", "length")] == 2
        exact = server.post("/v1/completions", ignore_eos=True, **body).json()
        assert exact["usage"]["completion_tokens"] == 250 and "foveate_notices" not in exact
    with live_server(model, config, output_watch=False) as server:
        assert server.post("/v1/completions", **body).json()["usage"]["completion_tokens"] == 250


def test_a_picture_that_makes_answers_long_is_capped_then_put_off() -> None:
    settings = DigestSettings(min_population=5, min_observations=2, min_tokens=50, per_minute=1)
    guard = OutputGuard(digests=settings)
    job = Job(prompt=[], parameters=SamplingParameters(max_tokens=1000))

    def answer(digest: str, tokens: int) -> RequestWatch:
        watch = RequestWatch(guard, job, owner="a", digests=[digest])
        for at in range(min(tokens, watch.job.parameters.max_tokens)):
            end = (
                "length"
                if at + 1 == watch.job.parameters.max_tokens
                else "stop"
                if at + 1 == tokens
                else None
            )
            # Every token another: circles are not what this is about.
            output = StepOutput(request_id="r", index=0, token_ids=(at,), text="", finish_reason=end)
            assert watch.read(output) is not None
        watch.close()
        return watch

    for at in range(10):
        assert answer(f"ordinary-{at}", 10).notices == []
    for _ in range(2):
        assert answer("verbose", 900).notices == []
    [notice] = answer("verbose", 900).notices
    assert notice["reason"] == "picture"
    with pytest.raises(ApiError) as caught:
        answer("verbose", 900)
    assert caught.value.status == 429 and caught.value.code == "picture_throttled"
    assert RequestWatch(guard, job, owner="b", digests=["verbose"]).job.parameters.max_tokens == 1000
