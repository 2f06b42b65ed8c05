"""Models behind an API and in process: every way a server fails, what names an answer, and that both say the same."""

from __future__ import annotations

import asyncio
import base64
import io
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from PIL import Image
from stub_endpoint import Raw, StubEndpoint, said

from foveate.errors import FoveateError, MediaError
from foveate.evaluate.contract import EvaluationError, Parameters, Picture, assistant, user
from foveate.evaluate.endpoints.failures import EndpointError
from foveate.evaluate.endpoints.openai import EndpointSettings, OpenAIModel, served_model
from foveate.evaluate.endpoints.pictures import SendingCodec
from foveate.media import open_image

PIXELS = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
PLAIN = Parameters()
QUESTION = [user(Picture(load=lambda: PIXELS), "How many?")]


def ask(server: StubEndpoint, messages=QUESTION, parameters=PLAIN, *, key=None, **settings):
    """One reply; waits between tries are short."""

    async def one():
        known = {"url": server.url, "model": "eye", "backoff": 0.001, "timeout": 60, **settings}
        model = OpenAIModel(EndpointSettings(**known), key=key)
        try:
            return await model.complete(messages, parameters)
        finally:
            await model.close()

    return asyncio.run(one())


def always(raw: Raw):
    return lambda number, body: raw


PAGE = "<!doctype html><html><head><title>Bad  gateway</title></head><body>sorry</body></html>"
TRUNCATED = '{"choices": [{"index": 0, "message": {"role": "assis'


# -- failures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "kind", "words", "tries"),
    [
        (Raw({"error": {"message": "boom"}}, status=500), "HTTP 500", "boom", 3),
        (Raw(PAGE, status=502), "HTTP 502", "Bad gateway", 3),
        (Raw(PAGE), "HTML", "Bad gateway", 1),
        (Raw(TRUNCATED), "broken JSON", "assis", 3),
        (Raw(TRUNCATED, cut=10), "connection", "gave no reply", 3),
        (Raw({"choices": []}), "empty choices", "choices", 3),
        (Raw({"choices": [{"text": "?"}]}), "broken JSON", "no message", 1),
        (Raw({"choices": [{"message": {"content": "7"}, "finish_reason": "error"}]}),
         "error in the reply", "ended by 'error'", 3),
        (Raw({"choices": [{"message": {"content": "7"}, "finish_reason": "abort"}]}),
         "error in the reply", "ended by 'abort'", 3),
        (Raw({"choices": [{"message": {"content": ""}, "error": {"message": "provider gone"}}]}),
         "error in the reply", "provider gone", 3),
        (Raw('{"choices": ' + "[" * 100_000), "broken JSON", "nested too deeply", 3),
        (Raw("[" * 100_000, status=400), "HTTP 400", r"\[\[\[", 1),
        (Raw("[]"), "empty choices", "no choices", 3),
        (Raw({"error": {"message": "no credits"}}), "error in the reply", "no credits", 1),
        (Raw({"error": {"message": "bad key"}}, status=401), "HTTP 401", "bad key", 1),
        (Raw("", status=404), "HTTP 404", "without a word", 1),
        (Raw({"error": {"message": "slow down"}}, status=429, retry_after="0.02"), "HTTP 429", "slow down", 3),
        (Raw({"detail": "unknown field"}, status=422), "HTTP 422", "unknown field", 1),
    ],
)  # fmt: skip
def test_a_failure_is_told_by_its_kind_and_tried_again_where_it_may_pass(raw, kind, words, tries):
    with StubEndpoint(always(raw)) as server:
        with pytest.raises(EndpointError, match=words) as caught:
            ask(server, retries=2)
        assert caught.value.kind == kind and len(server.bodies) == tries


def test_a_server_that_does_not_answer_in_time_or_is_not_there():
    with StubEndpoint(always(Raw("", seconds=1.0))) as server:
        with pytest.raises(EndpointError) as caught:
            ask(server, retries=1, timeout=0.3)
        assert caught.value.kind == "timeout" and len(server.bodies) <= 2
    with pytest.raises(EndpointError) as caught:
        ask(server, retries=0)
    assert caught.value.kind == "connection"


def test_a_failure_that_passes_leaves_no_trace_but_time():
    replies = [Raw("", status=503), Raw(TRUNCATED), said("4")]
    with StubEndpoint(lambda number, body: replies[number]) as server:
        reply = ask(server, retries=2)
    assert reply.text == "4" and reply.seconds["waited"] > 0


def test_the_time_a_server_asks_for_is_waited():
    replies = [Raw("", status=429, retry_after="0.3"), said("4")]
    with StubEndpoint(lambda number, body: replies[number]) as server:
        assert ask(server).text == "4"
    assert server.times[1] - server.times[0] >= 0.3
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    replies = [Raw("", status=429, retry_after=format_datetime(until, usegmt=True)), said("4")]
    with StubEndpoint(lambda number, body: replies[number]) as server:
        assert ask(server).text == "4" and datetime.now(UTC) >= until
    with StubEndpoint(always(Raw("", status=429, retry_after="7200"))) as server:
        with pytest.raises(EndpointError, match="429"):  # hours are not waited: the test would never end
            ask(server)
        assert len(server.bodies) == 1


def test_requests_keep_to_the_rate():
    async def three(model):
        await asyncio.gather(*(model.complete([user("?")], Parameters()) for _ in range(3)))
        await model.close()

    with StubEndpoint(always(said("4"))) as server:
        began = time.monotonic()
        asyncio.run(three(OpenAIModel(EndpointSettings(url=server.url, model="eye", rate=10))))
    assert max(server.times) - began >= 0.2


# -- what is sent and told -----------------------------------------------------------------------------------


def test_the_request_has_what_any_server_takes_and_pictures_without_loss():
    with StubEndpoint(always(said("4", prompt_tokens=9, completion_tokens=2))) as server:
        reply = ask(
            server, [*QUESTION, assistant("3"), user("Sure?")], Parameters(max_tokens=7), key="secret"
        )
    (body,) = server.bodies
    assert set(body) == {"model", "messages", "max_tokens", "temperature", "seed"}
    assert body["max_tokens"] == 7 and body["temperature"] == 0 and body["model"] == "eye"
    picture, text = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "How many?"} and body["messages"][1]["content"] == "3"
    kind, data = picture["image_url"]["url"].split(";base64,")
    seen = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == "data:image/png" and seen.format == "PNG" and seen.tobytes() == PIXELS.tobytes()
    digest = open_image(PIXELS).digest[:16]
    assert reply.pictures == ({"width": 40, "height": 30, "codec": "png", "digest": digest},)
    assert (reply.prompt_tokens, reply.generated_tokens, reply.image_tokens) == (9, 2, None)
    assert server.heads[0]["authorization"] == "Bearer secret"


def test_foveates_own_fields_are_sent_where_they_are_set_and_a_refusal_is_told():
    refused = Raw({"error": {"message": "There is no reducer 'x'"}}, status=400)
    with StubEndpoint(always(refused)) as server, pytest.raises(EndpointError, match="no reducer 'x'"):
        ask(server, parameters=Parameters(visual_budget="25%", reducer="x"))
    assert server.bodies[0]["visual_budget"] == "25%" and server.bodies[0]["reducer"] == "x"


@pytest.mark.parametrize(
    ("codec", "kind", "lossless"),
    [("png", "PNG", True), ("webp", "WEBP", True), ("jpeg:70", "JPEG", False), ("webp:50", "WEBP", False)],
)
def test_the_media_type_follows_the_bytes_and_the_digest_is_of_what_is_decoded(codec, kind, lossless):
    chosen = SendingCodec.parse(codec)
    data = chosen.encode(PIXELS)
    assert Image.open(io.BytesIO(data)).format == kind
    assert chosen.uri(data).startswith(f"data:image/{kind.lower()};base64,")
    facts = chosen.facts(data)
    assert facts["codec"] == codec and facts["digest"] == open_image(data).digest[:16]
    assert (facts["digest"] == open_image(PIXELS).digest[:16]) == lossless
    assert ("subsampling" in facts) != lossless


def test_a_jpeg_is_told_as_it_is_sampled():
    codec = SendingCodec.parse("jpeg:70")
    data = codec.encode(PIXELS)
    (_, horizontal, vertical, _), *rest = Image.open(io.BytesIO(data)).layer
    assert codec.facts(data)["subsampling"] == "4:4:4"
    assert all((h, v) == (horizontal, vertical) for _, h, v, _ in rest), "colour is as fine as brightness"


@pytest.mark.parametrize("codec", ["gif", "jpeg", "jpeg:0", "jpeg:101", "png:5", ""])
def test_codecs_that_are_none_are_refused(codec):
    with pytest.raises(EvaluationError, match="codec"):
        SendingCodec.parse(codec)


def test_odd_replies_are_read_as_they_are():
    odd = {
        "parts": ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        "nothing": (None, ""),
        "half a character": ("a\ud83d", "a�"),
    }
    for content, text in odd.values():
        with StubEndpoint(always(said(content, prompt_tokens="9", completion_tokens=True))) as server:
            reply = ask(server)
        assert reply.text == text and reply.prompt_tokens is None and reply.generated_tokens is None
    refusal = {"choices": [{"message": {"content": None, "refusal": "I can't."}, "finish_reason": None}]}
    with StubEndpoint(always(Raw(refusal))) as server:
        assert ask(server).text == "I can't."


def test_settings_that_mean_nothing_are_refused():
    for wrong in (
        {"rate": 0.0},
        {"timeout": float("inf")},
        {"retries": -1},
        {"codec": "bmp"},
        {"url": "host:1"},
        {"url": "http://me:secret@host"},
    ):
        with pytest.raises(FoveateError) as caught:
            EndpointSettings(**{"url": "http://host", "model": "eye", **wrong})
        assert "secret" not in str(caught.value)


def test_the_model_is_found_where_a_server_lists_one():
    with StubEndpoint(always(said("")), models=("only",)) as server:
        assert served_model(server.url) == "only"
    with (
        StubEndpoint(always(said("")), models=("a", "b")) as server,
        pytest.raises(FoveateError, match="a, b"),
    ):
        served_model(server.url)


# -- keys ----------------------------------------------------------------------------------------------------


def variations(model):
    """(name, key) of requests of which no two are alike."""
    brighter = PIXELS.point(lambda value: min(255, value + 1))
    picture, other = Picture(load=lambda: PIXELS), Picture(load=lambda: brighter)
    asked = {
        "first": ([user(picture, "How many?")], Parameters()),
        "text": ([user(picture, "How many")], Parameters()),
        "pixels": ([user(other, "How many?")], Parameters()),
        "order": ([user("How many?", picture)], Parameters()),
        "no picture": ([user("How many?")], Parameters()),
        "twice": ([user(picture, picture, "How many?")], Parameters()),
        "turns": ([user(picture, "How many?"), assistant("1"), user("Sure?")], Parameters()),
        "tokens": ([user(picture, "How many?")], Parameters(max_tokens=5)),
        "temperature": ([user(picture, "How many?")], Parameters(temperature=0.5)),
        "seed": ([user(picture, "How many?")], Parameters(seed=1)),
        "budget": ([user(picture, "How many?")], Parameters(visual_budget="25%")),
        "method": ([user(picture, "How many?")], Parameters(visual_budget="25%", reducer="random")),
    }
    return {name: model.key(*request) for name, request in asked.items()}


def test_an_endpoints_key_is_of_all_that_is_sent():
    settings = EndpointSettings(url="http://host", model="eye")
    keys = variations(OpenAIModel(settings))
    assert len(set(keys.values())) == len(keys)
    assert keys == variations(OpenAIModel(settings, key="secret")), (
        "a key opens the door, it changes no reply"
    )
    for other in (
        {"model": "ear"},
        {"url": "http://other"},
        {"codec": "jpeg:90"},
        {"extra": {"top_p": 0.5}},
    ):
        changed = OpenAIModel(EndpointSettings(**{"url": "http://host", "model": "eye", **other}))
        assert changed.key(QUESTION, Parameters()) != keys["first"]
    same = OpenAIModel(EndpointSettings(url="http://host/v1/", model="eye", timeout=1, retries=0))
    assert same.key(QUESTION, Parameters()) == keys["first"]


def test_an_endpoints_key_has_the_fingerprint_that_the_server_tells():
    def key(server):
        settings = EndpointSettings(url=server.url, model="eye")
        return OpenAIModel(settings).key(QUESTION, Parameters())

    with StubEndpoint(always(said("4"))) as server:
        keys = []
        for server.fingerprint in (None, "fv_1", "fv_2", "fv_1"):
            keys.append(key(server))
        for server.fingerprint in ("", 5, ["fv_1"]):
            assert key(server) == keys[0], "told badly is not told"
    assert keys[1] == keys[3] and len(set(keys)) == 3


def test_a_reply_of_another_fingerprint_than_the_keys_is_refused():
    words = iter(("fv_1", "fv_2"))

    def script(number, body):
        reply = {"choices": [{"message": {"content": "4"}}], "system_fingerprint": next(words)}
        return Raw(reply)

    async def two(model):
        model.key(QUESTION, Parameters())
        first = await model.complete(QUESTION, Parameters())
        with pytest.raises(EndpointError, match="fv_1 and is fv_2"):
            await model.complete(QUESTION, Parameters())
        await model.close()
        return first

    with StubEndpoint(script, fingerprint="fv_1") as server:
        assert asyncio.run(two(OpenAIModel(EndpointSettings(url=server.url, model="eye")))).text == "4"


@pytest.fixture(scope="module")
def engine_model():
    from foveate.evaluate.endpoints.engine import EngineModel
    from foveate.models import load

    return EngineModel(load(), concurrency=4)


def test_an_engines_key_is_of_tokens_pixels_parameters_weights_and_code(engine_model, monkeypatch):
    keys = variations(engine_model)
    assert len(set(keys.values())) == len(keys) and keys == variations(engine_model)
    for name in ("code", "weights_sha256", "dtype"):
        with monkeypatch.context() as patch:
            patch.setitem(engine_model._facts, name, "other")
            assert engine_model.key(QUESTION, Parameters()) != keys["first"]


def test_what_the_engine_cannot_take_is_that_items_failure(engine_model):
    def lost():
        raise MediaError("gone.png does not exist")

    async def each():
        found = []
        for messages in ([user(Picture(load=lost), "?")], [user("word " * 3000)]):
            with pytest.raises(FoveateError) as caught:
                await engine_model.complete(messages, Parameters())
            found.append(type(caught.value).__name__)
        with pytest.raises(FoveateError, match=r"reducer|method"):
            await engine_model.complete(QUESTION, Parameters(visual_budget="25%", reducer="nonsense"))
        reply = await engine_model.complete(QUESTION, Parameters(max_tokens=2, visual_budget="25%"))
        await engine_model.close()
        return found, reply

    found, reply = asyncio.run(each())
    assert found == ["MediaError", "ContextLengthError"]
    assert reply.image_tokens_kept < reply.image_tokens and reply.seconds["total"] > 0
    assert reply.pictures[0]["codec"] == "none"
    assert (reply.pictures[0]["width"], reply.pictures[0]["height"]) == (40, 30)
    size = (reply.pictures[0]["processed_width"], reply.pictures[0]["processed_height"])
    assert size == (168, 168) and reply.pictures[0]["frame"] == [0, -5, 40, 35], "fovea-nano pads to a square"
    assert reply.pictures[0]["digest"] == open_image(PIXELS).digest[:16]


# -- in process and over HTTP --------------------------------------------------------------------------------


@pytest.fixture
def foveate_server():
    """The address of a `foveate serve` process."""
    words = [sys.executable, "-m", "foveate.cli", "serve", "--port", "0", "--no-playground"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None, "the server printed no address"
        yield found[0]
    finally:
        process.kill()
        process.communicate()


def test_answers_over_http_are_those_of_the_engine_in_process(engine_model, tmp_path, foveate_server):
    """A real `foveate serve` process, asked the world's questions in two variants, one with fewer visual tokens."""
    from foveate.evaluate.perturb.variant import BASELINE, Variant
    from foveate.evaluate.planning import RunPlan, TaskChoice
    from foveate.evaluate.runner import Runner, begin

    fewer = Variant(name="fewer", axis="tokens", parameters={"visual_budget": "25%", "reducer": "fastervlm"})
    families = "existence,attribute,count,grounding,marker,reading"
    plan = RunPlan(
        tasks=(TaskChoice(name="world", settings={"count": 6, "families": families}),),
        style="nano",
        variants=(BASELINE, fewer),
    )
    remote = OpenAIModel(EndpointSettings(url=foveate_server, model=served_model(foveate_server)))
    replies = []
    for name, model in (("here", engine_model), ("there", remote)):
        folder, parts = begin(plan, model, tmp_path / name, machine={}, command="test")

        async def ask_all(model=model, parts=parts, folder=folder):
            await Runner(model, parts, folder, concurrency=3).run()
            await model.close()

        asyncio.run(ask_all())
        assert len(folder.samples) == 12 and not folder.failures
        replies.append(
            [
                (
                    place,
                    row["score"],
                    row["reply"]["text"],
                    *(
                        row["reply"][fact]
                        for fact in ("prompt_tokens", "generated_tokens", "image_tokens_kept")
                    ),
                    [picture["digest"] for picture in row["reply"]["pictures"]],
                )
                for place, row in folder.samples.items()
            ]
        )
    assert sorted(replies[0]) == sorted(replies[1])
    assert len({facts[2] for facts in replies[0]}) > 3, "the questions have different answers"
