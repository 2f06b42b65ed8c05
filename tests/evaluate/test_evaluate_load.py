"""The load generator against servers whose timing is known."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys

import pytest
from sse_server import DONE, StreamServer, chunk, event, usage

from foveate.evaluate.load import DEFINITIONS, LoadError, LoadSettings, measure, summarise
from foveate.evaluate.load.client import Sample
from foveate.evaluate.load.figures import PERCENTILES, spread
from foveate.evaluate.load.settings import base_url
from foveate.evaluate.load.workload import bodies


def measured(script, *, status="200 OK", models=("eye",), api_key=None, **settings):
    """The result and the server, for text alone unless told otherwise."""

    async def run():
        async with StreamServer(script, status=status, models=models) as server:
            known = {"concurrency": (1,), "requests": 3, "warmup": 0, "pictures": 0, **settings}
            return await measure(LoadSettings(url=server.url, **known), api_key=api_key), server

    return asyncio.run(run())


def steady(number: int, body: dict) -> list:
    return [
        (0.0, chunk()),
        (0.08, chunk("a")),
        (0.02, chunk("b")),
        (0.02, chunk("c")),
        (0.0, usage(3)),
        (0.0, DONE),
    ]


# -- figures -------------------------------------------------------------------------------------------------


def test_figures_are_what_their_definitions_say():
    first = Sample(
        sent=10.0, arrivals=[10.5, 10.6, 10.9], ended=11.0, output_tokens=6, counted="usage", prompt_tokens=7
    )
    second = Sample(sent=10.2, arrivals=[12.2], ended=12.2, output_tokens=1, counted="usage", cached_tokens=3)
    third = Sample(sent=10.0, ended=14.0, failure="HTTP 429")
    level = summarise([first, second, third], concurrency=2, cpu_seconds=1.0)
    assert level["ttft"]["mean"] == pytest.approx((0.5 + 2.0) / 2) and level["ttft"]["count"] == 2
    assert level["tpot"]["mean"] == pytest.approx(0.5 / 5) and level["tpot"]["count"] == 1
    assert level["itl"]["mean"] == pytest.approx(0.2) and level["itl"]["count"] == 2
    assert level["latency"]["p50"] == pytest.approx(1.5)
    assert level["seconds"] == pytest.approx(4.0) and level["generator_load"] == pytest.approx(0.25)
    assert level["request_rate"] == pytest.approx(0.5) and level["output_rate"] == pytest.approx(7 / 4)
    assert level["failures"] == {"HTTP 429": 1} and level["requests"] == 3
    assert (level["prompt_tokens"], level["cached_tokens"], level["image_tokens"]) == (7, 3, None)
    assert set(DEFINITIONS) <= set(level)


def test_percentiles_interpolate_and_nothing_gives_nothing():
    assert spread([]) is None
    found = spread([float(value) for value in range(101)])
    assert [found[f"p{share}"] for share in PERCENTILES] == list(PERCENTILES)


# -- measuring -----------------------------------------------------------------------------------------------


def test_times_are_those_of_the_server():
    result, server = measured(steady, api_key="fv_secret")
    level = result["levels"][0]
    assert level["ttft"]["p50"] >= 0.08 and level["itl"]["p50"] >= 0.015  # a busy machine only adds
    assert level["tpot"]["p50"] >= 0.018 and level["latency"]["p50"] >= 0.11
    assert level["output_tokens"] == 9 and level["tokens_counted_by"] == ["usage"] and level["failures"] == {}
    assert result["settings"]["model"] == "eye" and "secret" not in json.dumps(result)
    assert all("authorization: bearer fv_secret" in head.lower() for head in server.heads)


def test_a_sweep_keeps_so_many_in_flight_and_no_two_requests_are_alike():
    result, server = measured(steady, concurrency=(1, 4), requests=8, warmup=2, pictures=1, prompt_words=3)
    assert server.most == 4 and [level["requests"] for level in result["levels"]] == [8, 8]
    assert len(server.bodies) == 20  # warm-up included
    pictures = {body["messages"][0]["content"][0]["image_url"]["url"] for body in server.bodies}
    assert len(pictures) == 20
    slow, fast = (level["output_rate"] for level in result["levels"])
    assert fast > slow


def test_requests_are_the_same_for_a_seed():
    def first(**settings):
        made = bodies(LoadSettings(url="http://x", requests=1, **settings), "eye")
        return list(itertools.islice(made, 3))

    assert first(seed=1) == first(seed=1) != first(seed=2)
    assert first(repeat=True)[0] == first(repeat=True)[2] and first()[0] != first()[2]
    body = first(pictures=0, prompt_words=5, exact_tokens=True, max_tokens=9)[0]
    assert len(body["messages"][0]["content"].splitlines()[0].split()) == 5
    assert (body["max_tokens"], body["min_tokens"], body["ignore_eos"], body["stream"]) == (9, 9, True, True)
    assert len(first(pictures=3)[0]["messages"][0]["content"]) == 4


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        ([(0.0, chunk("a"))], "cut stream"),
        ([(0.0, chunk()), (0.0, DONE)], "empty answer"),
        ([(0.0, chunk("a")), (0.0, event({"error": {"message": "the model failed"}}))], "error event"),
        ([(0.0, b"data: {broken\n\n")], "broken event"),
        ([(0.0, b"data: [1]\n\n")], "broken event"),
        ([(0.0, chunk("a")), (2.5, DONE)], "timeout"),
    ],
)
def test_failures_are_counted_by_kind_and_in_no_figure(script, failure):
    def every_second(number: int, body: dict) -> list:
        return script if number % 2 else steady(number, body)

    level = measured(every_second, requests=4, timeout=1.0)[0]["levels"][0]
    assert level["failures"] == {failure: 2} and level["ttft"]["count"] == 2 and level["output_tokens"] == 6


def test_a_server_that_refuses_everything_is_an_error_with_its_own_words():
    with pytest.raises(LoadError, match=r"HTTP 429: .*slow down"):
        measured(lambda number, body: [(0.0, b'{"error": "slow down"}')], status="429 Too Many Requests")


def test_without_usage_chunks_are_counted():
    script = [(0.0, b": a comment\n\n"), (0.0, chunk("a") + chunk("b")), (0.0, b"event: x\ndata: [DONE]")]
    level = measured(lambda number, body: script)[0]["levels"][0]
    assert level["tokens_counted_by"] == ["chunks"] and level["output_tokens"] == 6


def test_what_foveate_tells_of_pictures_is_added_up():
    told = usage(2, image_tokens=100, image_tokens_kept=25, prompt_tokens_details={"cached_tokens": 8})
    level = measured(lambda number, body: [(0.0, chunk("a")), (0.0, told), (0.0, DONE)])[0]["levels"][0]
    assert (level["image_tokens"], level["image_tokens_kept"], level["cached_tokens"]) == (300, 75, 24)


@pytest.mark.parametrize("models", [(), ("eye", "ear")])
def test_the_model_must_be_named_where_there_is_not_one(models):
    with pytest.raises(LoadError, match="Name one with --model"):
        measured(steady, models=models)
    assert measured(steady, models=models, model="ear")[1].bodies[0]["model"] == "ear"


def test_no_server_is_an_error():
    with pytest.raises(LoadError, match="does not answer"):
        asyncio.run(measure(LoadSettings(url="http://127.0.0.1:9")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"concurrency": ()}, "concurrency"),
        ({"concurrency": (0,)}, "concurrency"),
        ({"requests": 0}, "requests"),
        ({"timeout": 0.0}, "timeout"),
        ({"pictures": -1}, "pictures"),
        ({"url": "127.0.0.1:8000"}, "no server"),
        ({"url": "ftp://x"}, "no server"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(LoadError, match=message):
        LoadSettings(**{"url": "http://x", **settings})


def test_addresses_with_and_without_version_are_one():
    assert base_url("http://h:1") == base_url("http://h:1/") == base_url("http://h:1/v1/") == "http://h:1/v1"
    assert base_url("https://h/api/v3") == "https://h/api/v3"


# -- the command ---------------------------------------------------------------------------------------------


def test_the_command_prints_writes_and_draws(tmp_path):
    async def run():
        async with StreamServer(steady) as server:
            words = ("bench", "serve", server.url, "--concurrency", "1,2", "--requests", "3", "--pictures", "0",
                     "--output", str(tmp_path / "load.json"), "--plot", str(tmp_path / "load.png"))  # fmt: skip
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "foveate.cli", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            return *(part.decode() for part in await process.communicate()), process.returncode

    printed, told, code = asyncio.run(run())
    assert code == 0, told
    assert printed.splitlines()[0].startswith("at once  requests") and len(printed.splitlines()) == 3
    assert "TTFT: time to first token" in told
    document = json.loads((tmp_path / "load.json").read_text())
    assert [level["concurrency"] for level in document["levels"]] == [1, 2] and document["machine"][
        "cores"
    ] >= 1
    assert (tmp_path / "load.png").read_bytes()[:4] == b"\x89PNG"
