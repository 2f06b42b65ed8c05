"""Clients of a soak, good and bad: 64 at once over plain sockets, each with a random next thing to do.

Owns what a client may do, what each may get back, and the count of what came. Knows no engine and no web library: a
socket can be closed at any byte, which a well-behaved HTTP client would not do.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

GIVE_UP = 240  # seconds; a reply that takes longer is a hang, on the busiest machine too
MARGIN = 0.01  # in log-probability; where the two best are nearer, batches of other shapes may swap them
LONG_ANSWER = {"ignore_eos": True, "max_tokens": 300, "stream": True}
PNG_HEAD = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAA")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Status, headers in lower case, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def streamed_text(self) -> str:
        """The words of a stream. Each event lies within one chunk of the transfer."""
        lines = [line[5:] for line in self.body.splitlines() if line.startswith(b"data:")]
        assert lines and lines[-1].strip() == b"[DONE]", "a stream ends with [DONE]"
        events = [json.loads(line) for line in lines[:-1]]
        assert not [one for one in events if "error" in one], events[-1]
        return "".join(choice["delta"].get("content") or "" for one in events for choice in one["choices"])


async def send(
    port: int, body: bytes, *, leave_after: float | None = None, cut: int | None = None
) -> Reply | None:
    """One request on a connection of its own; None where this side hung up.

    Args:
        leave_after: hang up so many seconds after sending.
        cut: send so many bytes of the body and hang up.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + (body if cut is None else body[:cut]))
        await writer.drain()
        if cut is not None:
            return None
        try:
            async with asyncio.timeout(GIVE_UP if leave_after is None else leave_after):
                raw = await reader.read(-1)
        except TimeoutError:
            assert leave_after is not None, f"no reply in {GIVE_UP} s"
            return None
    finally:
        writer.close()
    top, _, rest = raw.partition(b"\r\n\r\n")
    status, *lines = top.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Reply(status=int(status.split()[1]), headers=headers, body=rest)


def chat(text: str, pictures: Sequence[str] = (), **fields: Any) -> dict[str, Any]:
    """The body of a request: pictures, then words."""
    parts: list[Any] = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
    message = {"role": "user", "content": [*parts, {"type": "text", "text": text}]}
    return {"messages": [message], "temperature": 0, **fields}


@dataclass(frozen=True, kw_only=True)
class Known:
    """A request and the one right answer to it."""

    body: dict[str, Any]
    text: str


async def answered_before(port: int, bodies: Sequence[dict[str, Any]]) -> list[Known]:
    """Each request alone, with its answer. Those whose answer hangs on a rounding error are left out."""
    known = []
    for body in bodies:
        reply = await send(port, json.dumps({**body, "logprobs": True, "top_logprobs": 2}).encode())
        assert reply is not None and reply.status == 200, reply
        choice = reply.json()["choices"][0]
        tops = [token["top_logprobs"] for token in choice["logprobs"]["content"]]
        if all(best["logprob"] - second["logprob"] > MARGIN for best, second in tops):
            known.append(Known(body=body, text=choice["message"]["content"]))
    return known


def bad_picture(rng: random.Random, picture: str) -> str:
    """A picture that cannot be opened, in one of several ways."""
    good = base64.b64decode(picture.partition(",")[2])
    huge = PNG_HEAD[:16] + (2**20).to_bytes(4, "big") * 2 + good[24:]  # says that it is a million pixels wide
    data = rng.choice(
        [good[: len(good) // 2], b"not a picture", b"", huge, good[:40] + b"\0" * 40 + good[80:]]
    )
    return rng.choice(["data:image/png;base64,", "data:image/jpeg;base64,"]) + base64.b64encode(data).decode()


@dataclass(kw_only=True)
class Soak:
    """What the clients saw.

    Attributes:
        counts: by what was done and how it ended.
        wrong: requests with the answer that came and the one that was right; must stay empty.
        surprises: replies that nobody may get; must stay empty.
        latencies: (seconds since the beginning, seconds it took) of right answers.
    """

    port: int
    known: Sequence[Known]
    picture: str
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[Any, str, str]] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    began: float = 0.0

    async def run(self, seconds: float, clients: int = 64, seed: int = 0) -> None:
        """All clients until the time is over, and every reply that is still to come."""
        self.began = time.monotonic()
        await asyncio.gather(*(self._client(random.Random(seed * 1000 + n), seconds) for n in range(clients)))

    async def _client(self, rng: random.Random, seconds: float) -> None:
        doings = (self._ask, self._leave, self._cut, self._bad_picture, self._huge_prompt, self._nonsense)
        while time.monotonic() - self.began < seconds:
            (doing,) = rng.choices(doings, weights=(10, 4, 1, 2, 1, 1))
            try:
                await doing(rng)
            except OSError as error:  # the server must not hang up on anybody
                self.surprises.append(f"{doing.__name__}: {error!r}")
            await asyncio.sleep(rng.uniform(0, 0.05))

    async def _ask(self, rng: random.Random) -> None:
        """A request whose answer is known, whole or streamed."""
        one, stream, began = rng.choice(self.known), rng.random() < 0.5, time.monotonic()
        reply = await send(self.port, json.dumps({**one.body, "stream": stream}).encode())
        assert reply is not None
        if await self._busy(reply, rng):
            return
        if reply.status != 200:
            self._surprise("a good request", reply)
            return
        text = reply.streamed_text if stream else reply.json()["choices"][0]["message"]["content"]
        if text != one.text:
            self.wrong.append((one.body["messages"][0]["content"][-1], text, one.text))
        self.counts["answered, streamed" if stream else "answered, whole"] += 1
        self.latencies.append((began - self.began, time.monotonic() - began))

    async def _leave(self, rng: random.Random) -> None:
        """A long answer that is not awaited to its end; sometimes not to its beginning."""
        body = {**rng.choice(self.known).body, **LONG_ANSWER, "stream": rng.random() < 0.7}
        reply = await send(
            self.port, json.dumps(body).encode(), leave_after=rng.choice([0, 0.02, 0.1, 0.5, 2])
        )
        if reply is None:
            self.counts["left before the end"] += 1
        elif not await self._busy(reply, rng):
            self.counts["stayed to the end"] += 1

    async def _cut(self, rng: random.Random) -> None:
        """A request that breaks off in its body."""
        body = json.dumps(rng.choice(self.known).body).encode()
        await send(self.port, body, cut=rng.randrange(len(body)))
        self.counts["broke off in the request"] += 1

    async def _bad_picture(self, rng: random.Random) -> None:
        body = chat("What is this?", [bad_picture(rng, self.picture)], max_tokens=4)
        await self._refused(body, rng, "bad picture", "")

    async def _huge_prompt(self, rng: random.Random) -> None:
        body = chat("word " * rng.choice([5_000, 20_000, 100_000]), max_tokens=4)
        await self._refused(body, rng, "huge prompt", "context_length_exceeded")

    async def _nonsense(self, rng: random.Random) -> None:
        more: dict[str, Any] = rng.choice(
            [{"no_such_field": 1}, {"max_tokens": -1}, {"reducer": "none such"}]
        )
        await self._refused({**rng.choice(self.known).body, **more}, rng, "nonsense", "")

    async def _refused(self, body: dict[str, Any], rng: random.Random, kind: str, code: str) -> None:
        reply = await send(self.port, json.dumps(body).encode())
        assert reply is not None
        if await self._busy(reply, rng):
            return
        error = reply.json().get("error", {})
        if reply.status != 400 or not error.get("message") or (code and error.get("code") != code):
            self._surprise(kind, reply)
        self.counts[f"refused: {kind}"] += 1

    async def _busy(self, reply: Reply, rng: random.Random) -> bool:
        """Whether the queue was full; then this client waits for a moment."""
        if reply.status != 429:
            return False
        if int(reply.headers.get("retry-after", 0)) < 1:
            self._surprise("429 without Retry-After", reply)
        self.counts["told to come again"] += 1
        await asyncio.sleep(rng.uniform(0.2, 1.0))  # sooner than it was told: the queue shall be full again
        return True

    def _surprise(self, what: str, reply: Reply) -> None:
        self.surprises.append(f"{what}: {reply.status} {reply.body[:300]!r}")
