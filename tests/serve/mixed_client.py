"""Clients of the mixed stress test: requests of every kind with one right reply each, streams that are watched by a
script, and callers of both who leave at any moment.

Owns what a client does, what each reply must be, and the count of what came. Knows no engine: the right replies are
those of a server that does not speculate.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from soak_client import GIVE_UP

Answers = tuple[tuple[str, str], ...]  # text and reason to end, of each of the n
CHAT = "/v1/chat/completions"
Doing = Callable[[random.Random], Coroutine[Any, Any, None]]
_AT_EBB = 2  # clients that ask at any time
LONG_ANSWER = {"ignore_eos": True, "max_tokens": 200, "stream": True}


@dataclass(frozen=True, kw_only=True)
class Known:
    """A request and the one right reply to it."""

    kind: str
    body: dict[str, Any]
    answers: Answers


@dataclass(frozen=True, kw_only=True)
class Script:
    """What is shown to a stream, and what it says.

    Attributes:
        opening: the body that opens it.
        frames: bodies, in order; one may come late, and is dropped.
        question: a body.
        reports: what stays the same of the reply to each frame.
        answers: to the question, asked after each frame.
    """

    opening: dict[str, Any]
    frames: tuple[dict[str, Any], ...]
    question: dict[str, Any]
    reports: tuple[dict[str, Any], ...] = ()
    answers: tuple[str, ...] = ()


def client_of(port: int) -> httpx.AsyncClient:
    """As many connections as there are callers."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=GIVE_UP, limits=limits)


def answers_of(reply: dict[str, Any]) -> Answers:
    """Of a whole reply."""
    choices = sorted(reply["choices"], key=lambda choice: choice["index"])
    return tuple((choice["message"]["content"], choice["finish_reason"]) for choice in choices)


def streamed_answers(body: bytes) -> Answers:
    """Of a reply as server-sent events."""
    lines = [line[5:] for line in body.splitlines() if line.startswith(b"data:")]
    assert lines and lines[-1].strip() == b"[DONE]", "a stream ends with [DONE]"
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    for event in map(json.loads, lines[:-1]):
        assert "error" not in event, event
        for choice in event["choices"]:
            index = choice["index"]
            texts[index] = texts.get(index, "") + (choice["delta"].get("content") or "")
            reasons[index] = choice["finish_reason"] or reasons.get(index, "")
    return tuple((texts[index], reasons[index]) for index in sorted(texts))


def told(reply: dict[str, Any]) -> dict[str, Any]:
    """What of the reply to a frame is the same every time: all but the milliseconds."""
    return {**reply, "report": None if reply["report"] is None else {**reply["report"], "milliseconds": None}}


@dataclass(kw_only=True)
class Mixed:
    """What the clients saw.

    Attributes:
        counts: by what was done and how it ended.
        wrong: what was asked, what came and what was right; must stay empty.
        surprises: replies that nobody may get; must stay empty.
    """

    http: httpx.AsyncClient
    known: Sequence[Known]
    scripts: Sequence[Script]
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[Any, Any, Any]] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    _began: float = 0.0
    _first: Iterator[Known] = field(default_factory=lambda: iter(()))  # each is asked once, then any

    async def run(
        self, seconds: float, *, tide: float, askers: int, leavers: int, watchers: int, rude: int
    ) -> None:
        """All clients until the time is over, and every reply that is still to come.

        Args:
            tide: seconds in the first half of which all clients ask, and in the second two of them.
        """
        self._began, self._first = time.monotonic(), iter(self.known)
        doings = [self._ask] * askers + [self._leave] * leavers
        doings += [self._watch] * watchers + [self._watch_rudely] * rude
        await asyncio.gather(
            *(self._client(doing, number, seconds, tide) for number, doing in enumerate(doings))
        )

    async def _client(self, doing: Doing, number: int, seconds: float, tide: float) -> None:
        rng = random.Random(number)
        while (now := time.monotonic() - self._began) < seconds:
            if number >= _AT_EBB and now % tide > tide / 2:
                await asyncio.sleep(0.1)
                continue
            try:
                await doing(rng)
            except (httpx.HTTPError, OSError) as error:  # the server must not hang up on anybody
                self.surprises.append(f"{doing.__name__}: {error!r}")
            await asyncio.sleep(rng.uniform(0, 0.05))

    # -- chats -----------------------------------------------------------------------------------------------------

    async def _ask(self, rng: random.Random) -> None:
        """A request whose reply is known, whole or streamed, with guesses or without."""
        one = next(self._first, None) or rng.choice(self.known)
        stream, speculate = rng.random() < 0.5, rng.choice([None, True, False])
        body = {**one.body, "stream": stream, "speculate": speculate}
        while await self._busy(reply := await self.http.post(CHAT, json=body), rng):
            pass
        if not self._good(reply, one.kind):
            return
        got = streamed_answers(reply.content) if stream else answers_of(reply.json())
        if got != one.answers:
            self.wrong.append((body | {"messages": one.kind}, got, one.answers))
        if not stream:
            details = reply.json()["usage"]["completion_tokens_details"]
            if speculate is False and any(details.values()):
                self.surprises.append(f"guessed where it was declined: {details}")
        self.counts[f"{one.kind}, {'streamed' if stream else 'whole'}"] += 1
        self.counts["plain" if speculate is False else "may speculate"] += 1

    async def _leave(self, rng: random.Random) -> None:
        """A long answer that is not awaited to its end; sometimes not to its beginning."""
        one = rng.choice(self.known)
        body = {**one.body, **LONG_ANSWER, "stream": rng.random() < 0.7, "speculate": rng.random() < 0.8}
        reply = await self._left(rng, CHAT, body, [0.01, 0.1, 0.5, 2, 4])
        if reply is None:
            self.counts["left before the end"] += 1
        elif not await self._busy(reply, rng) and self._good(reply, "a long answer"):
            self.counts["stayed to the end"] += 1

    async def _left(
        self, rng: random.Random, path: str, body: dict[str, Any], seconds: Sequence[float]
    ) -> httpx.Response | None:
        """The reply, or None where this side hung up after one of so many seconds."""
        try:
            async with asyncio.timeout(rng.choice(seconds)):
                return await self.http.post(path, json=body)
        except TimeoutError:
            return None

    # -- streams ---------------------------------------------------------------------------------------------------

    async def _watch(self, rng: random.Random) -> None:
        """A stream by its script, some questions between, of which some are not awaited; the comments are the plain
        server's to the last, whatever was asked."""
        script = rng.choice(self.scripts)
        path = await self._opened(script, rng)
        if path is None:
            return
        shown = rng.choice([2, len(script.frames), len(script.frames)])
        for number, frame in enumerate(script.frames[:shown]):
            reply = await self._until_taken(f"{path}/frames", frame, rng)
            if reply is None:
                break
            self._compare("a comment", told(reply), script.reports[number])
            if number == 0 or rng.random() < 0.4:
                await self._left(rng, f"{path}/questions", script.question, [0.01, 0.1, 0.5])
                self.counts["questions left"] += 1
            if number == 0 or rng.random() < 0.6:
                answer = await self._until_taken(f"{path}/questions", script.question, rng)
                if answer is None:
                    break
                self._compare("a stream's answer", answer["text"], script.answers[number])
        await self._closed(path)

    async def _watch_rudely(self, rng: random.Random) -> None:
        """Frames and questions that are not awaited, and a listener that leaves; then the stream is closed."""
        script = rng.choice(self.scripts)
        path = await self._opened(script, rng)
        if path is None:
            return
        listening = asyncio.create_task(self._listen(path, rng.uniform(0, 4)))
        for frame in script.frames:
            if await self._left(rng, f"{path}/frames", frame, [0.01, 0.1, 1]) is None:
                self.counts["frames left"] += 1
            await self._left(rng, f"{path}/questions", script.question, [0.01, 0.1, 1])
        await self._closed(path)
        await listening

    async def _listen(self, path: str, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds), self.http.stream("GET", f"{path}/events") as reply:
                await reply.aread()
        except TimeoutError:
            self.counts["listeners left"] += 1

    async def _opened(self, script: Script, rng: random.Random) -> str | None:
        reply = await self.http.post("/v1/streams", json=script.opening)
        if await self._busy(reply, rng) or not self._good(reply, "a stream"):
            return None
        return f"/v1/streams/{reply.json()['id']}"

    async def _until_taken(
        self, path: str, body: dict[str, Any], rng: random.Random
    ) -> dict[str, Any] | None:
        """The reply to what must not be left out; None where it was refused for another reason than a full queue."""
        while True:
            reply = await self.http.post(path, json=body)
            if not await self._busy(reply, rng):
                return dict(reply.json()) if self._good(reply, path.rpartition("/")[2]) else None

    async def _closed(self, path: str) -> None:
        reply = await self.http.delete(path)
        if self._good(reply, "closing a stream"):
            self.counts["streams closed"] += 1
        if (await self.http.get(path)).status_code != 404:
            self.surprises.append("a stream that was closed is still there")

    # -- replies ---------------------------------------------------------------------------------------------------

    def _compare(self, what: str, got: Any, right: Any) -> None:
        self.counts[what] += 1
        if got != right:
            self.wrong.append((what, got, right))

    def _good(self, reply: httpx.Response, what: str) -> bool:
        if reply.status_code == 200:
            return True
        self.surprises.append(f"{what}: {reply.status_code} {reply.content[:300]!r}")
        return False

    async def _busy(self, reply: httpx.Response, rng: random.Random) -> bool:
        """Whether queue or streams were full; then this client waits for a moment."""
        if reply.status_code != 429:
            return False
        self.counts["told to come again"] += 1
        await asyncio.sleep(rng.uniform(0.2, 1.0))  # sooner than it was told: the queue shall be full again
        return True
