"""Streams over the API, on a live server: the command line's comments, questions, events, bursts and owners."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from types import SimpleNamespace

import pytest
import tiny
from live_server import live_server

from foveate.decode.streaming import StreamingSession, StreamSettings
from foveate.serve import streams as store_module
from foveate.serve.errors import ApiError
from foveate.serve.streams import MOST_STREAMS, MOST_WAITING, StreamStore

SIZE = {"width": 168, "height": 168}
SMALL = {"vision_seconds": 2, "reply_tokens": 4, "text_tokens": 16}


@pytest.fixture(scope="module")
def server(model):
    """One of its own: other tests leave streams open, and there are only so many."""
    with live_server(model) as live:
        yield live


def frame(number):
    return tiny.picture(168, 168, seed=number)


def sent(number):
    target = io.BytesIO()
    frame(number).save(target, "PNG")
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode()


def opened(server, **fields):
    reply = server.post("/v1/streams", **SIZE, **SMALL, **fields)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_a_stream_says_what_a_session_says_and_stays_within_its_bound(server, model):
    stream = opened(server, system="Count")
    path = f"/v1/streams/{stream['id']}"
    plain = StreamingSession(model, StreamSettings(**SMALL), system="Count", **SIZE)
    heard, listening = [], threading.Event()

    def listen():
        with server.http.stream("GET", f"{path}/events") as reply:
            listening.set()
            heard.extend(line[6:] for line in reply.iter_lines() if line.startswith("data: "))

    listener = threading.Thread(target=listen)
    listener.start()
    assert listening.wait(10)
    told = []
    for second in range(5):
        reply = server.post(f"{path}/frames", image=sent(second), seconds=float(second)).json()
        report = plain.push_frame(frame(second), second)
        assert reply["report"]["text"] == report.reply.text and reply["report"]["tokens"] == report.tokens
        assert report.tokens <= stream["bound"]["tokens"] and report.bytes <= stream["bound"]["bytes"]
        told.append(reply["report"])
        asked = server.post(f"{path}/questions", question="How many stars are there?", max_tokens=4).json()
        assert asked["text"] == plain.ask("How many stars are there?", max_tokens=4).text
    assert server.post(f"{path}/frames", image=sent(0), seconds=1.0).json()["frames_dropped"] == {"late": 1}
    state = server.http.get(path).json()
    assert (state["second"], state["frames_seen"], state["frames_used"]) == (4, 6, 5)
    assert server.http.delete(path).json() == {"id": stream["id"], "object": "stream", "deleted": True}
    listener.join(10)
    assert [json.loads(one) for one in heard[:-1]] == told and heard[-1] == "[DONE]"
    assert server.http.get(path).status_code == 404
    plain.close()


def test_chats_go_on_beside_a_stream(server, ask):
    messages = ask()
    before = server.chat(messages, max_tokens=12).json()["choices"]
    path = f"/v1/streams/{opened(server)['id']}"
    replies = []

    def chat():
        replies.extend(server.chat(messages, max_tokens=12).json()["choices"] for _ in range(6))

    thread = threading.Thread(target=chat)
    thread.start()
    for second in range(6):
        assert server.post(f"{path}/frames", image=sent(second), seconds=float(second)).status_code == 200
    thread.join(60)
    assert replies == [before] * 6
    assert server.http.delete(path).status_code == 200
    server.eventually(server.nothing_held)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"vision_seconds": 60}, "context is 1,024"),
        ({"sink_tokens": 1, "system": "Count the red stars"}, "sink_tokens is 1"),
        ({"window": 3}, "window"),
        ({"model": "other"}, "There is no model"),
    ],
)
def test_mistakes_are_told(server, fields, words):
    reply = server.post("/v1/streams", **{**SIZE, **fields})
    assert reply.status_code in (400, 404, 422) and words in reply.json()["error"]["message"]


def test_frames_and_questions_that_cannot_be(server):
    path = f"/v1/streams/{opened(server)['id']}"
    assert server.post("/v1/streams/nowhere/frames", image=sent(0), seconds=0.0).status_code == 404
    assert server.post(f"{path}/frames", image="data:image/png;base64,AAAA", seconds=0.0).status_code == 400
    assert server.post(f"{path}/frames", image=sent(0), seconds=-1.0).status_code == 400
    reply = server.post(f"{path}/questions", question="how many " * 200)
    assert reply.status_code == 400 and "question_tokens" in reply.json()["error"]["message"]
    assert server.http.delete(path).status_code == 200


def test_there_are_only_so_many_streams(server):
    names = [opened(server)["id"] for _ in range(MOST_STREAMS)]
    refused = server.post("/v1/streams", **SIZE)
    assert refused.status_code == 429 and refused.json()["error"]["code"] == "too_many_streams"
    assert f"foveate:num_streams {MOST_STREAMS}.0" in server.http.get("/metrics").text
    for name in names:
        assert server.http.delete(f"/v1/streams/{name}").status_code == 200
    assert server.http.delete(f"/v1/streams/{opened(server)['id']}").status_code == 200


# -- the store alone ----------------------------------------------------------------------------------------------


class FakeSession:
    def __init__(self):
        self.go, self.closed = threading.Event(), False

    def close(self):
        self.closed = True


def test_a_burst_is_refused_an_idle_stream_closed_and_owners_kept_apart():
    async def run():
        now = SimpleNamespace(value=0.0)
        store = StreamStore(clock=lambda: now.value)
        first = await store.open("ann", FakeSession)
        with pytest.raises(ApiError, match="no stream"):
            store.get(first.id, "bob")
        assert store.get(first.id, "ann") is first
        session = first.session
        waiting = [
            asyncio.create_task(store.work(first, lambda one: one.go.wait(10))) for _ in range(MOST_WAITING)
        ]
        await asyncio.sleep(0.05)
        with pytest.raises(ApiError, match="pieces of work wait"):
            await store.work(first, lambda one: None)
        waiting[0].cancel()  # its caller has gone; the work is done all the same
        session.go.set()
        assert await asyncio.gather(*waiting[1:]) == [True] * (MOST_WAITING - 1)
        assert first.waiting == 0
        now.value = store_module.IDLE_SECONDS + 1
        second = await store.open("ann", FakeSession)
        assert session.closed and len(store) == 1
        await store.close()
        assert second.session.closed

    asyncio.run(run())


def test_a_listener_that_falls_behind_is_told_how_much_it_missed():
    async def run():
        store = StreamStore()
        stream = await store.open("", FakeSession)
        events = stream.events()
        first = asyncio.create_task(anext(events))
        await asyncio.sleep(0)
        for number in range(300):
            stream.tell({"second": number})
        assert await first == {"second": 44, "events_lost": 44}
        assert await anext(events) == {"second": 45}
        await store.close()

    asyncio.run(run())
