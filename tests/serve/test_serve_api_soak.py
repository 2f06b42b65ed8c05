"""Many clients at once, good ones and bad ones, for minutes: no wrong answer, nothing left behind, no endless wait.

`pytest -m stress tests/serve/test_serve_api_soak.py` runs it for five minutes; FOVEATE_SOAK_SECONDS changes that. The
figures are printed as one JSON line.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import psutil
import pytest
from live_server import LiveServer, live_server

from foveate.engine import EngineConfig

CLIENTS = 64
SECONDS = float(os.environ.get("FOVEATE_SOAK_SECONDS", "300"))
MOST_GROWTH = 64 * 2**20  # bytes from the end of the first third to the end
QUESTIONS = ("How many objects are there?", "Is there a red circle?", "List every object with its place.")
BUDGETS = ("full", "50%", "25%")
CHAT = "/v1/chat/completions"


class Soak:
    """What the clients do, and what they saw."""

    def __init__(self, server: LiveServer, messages: Callable[[str], Any]) -> None:
        self.server, self.messages = server, messages
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.waits: list[tuple[float, float]] = []  # when a good request ended, how long it took
        self.expected: dict[tuple[str, str], str] = {}
        for question in QUESTIONS:
            for budget in BUDGETS:
                reply = server.chat(messages(question), visual_budget=budget)
                self.expected[question, budget] = reply.json()["choices"][0]["message"]["content"]

    async def run(self, seconds: float) -> None:
        limits = httpx.Limits(max_connections=CLIENTS + 8)
        async with httpx.AsyncClient(base_url=self.server.url, timeout=120, limits=limits) as http:
            end = time.monotonic() + seconds
            await asyncio.gather(*(self._client(http, random.Random(seed), end) for seed in range(CLIENTS)))

    async def _client(self, http: httpx.AsyncClient, rng: random.Random, end: float) -> None:
        actions: list[Callable[[httpx.AsyncClient, random.Random], Awaitable[None]]]
        actions = (
            [self._ask] * 6
            + [self._stream] * 3
            + [self._leave, self._hang_up, self._nonsense, self._too_long]
        )
        while time.monotonic() < end:
            action = rng.choice(actions)
            await action(http, rng)
            self.counts[action.__name__.strip("_")] += 1
            await asyncio.sleep(rng.random() * 0.05)

    def _good(self, rng: random.Random) -> tuple[dict[str, Any], str]:
        question, budget = rng.choice(QUESTIONS), rng.choice(BUDGETS)
        body = {"messages": self.messages(question), "visual_budget": budget}
        return body, self.expected[question, budget]

    def _check(self, status: int, answer: str, expected: str, began: float) -> None:
        if status in (429, 503):
            self.counts["refused"] += 1
            return
        self.waits.append((time.monotonic(), time.monotonic() - began))
        if status != 200 or answer != expected:
            self.wrong.append(f"{status}: {answer[:200]!r} for {expected!r}")

    async def _ask(self, http: httpx.AsyncClient, rng: random.Random) -> None:
        (body, expected), began = self._good(rng), time.monotonic()
        reply = await http.post(CHAT, json=body)
        told = reply.json()
        answer = told["choices"][0]["message"]["content"] if reply.status_code == 200 else str(told)
        self._check(reply.status_code, answer, expected, began)

    async def _stream(self, http: httpx.AsyncClient, rng: random.Random) -> None:
        (body, expected), began, words = self._good(rng), time.monotonic(), ""
        async with http.stream("POST", CHAT, json={**body, "stream": True}) as reply:
            async for line in reply.aiter_lines():
                if line.startswith("data: {"):
                    for choice in json.loads(line[6:])["choices"]:
                        words += choice["delta"].get("content") or ""
        self._check(reply.status_code, words, expected, began)

    async def _leave(self, http: httpx.AsyncClient, rng: random.Random) -> None:
        body, _ = self._good(rng)
        lines = rng.randrange(4)
        async with http.stream("POST", CHAT, json={**body, "stream": True, "ignore_eos": True}) as reply:
            async for _ in reply.aiter_lines():
                lines -= 1
                if lines < 0:
                    return

    async def _hang_up(self, http: httpx.AsyncClient, rng: random.Random) -> None:
        body, _ = self._good(rng)
        try:
            await http.post(CHAT, json={**body, "ignore_eos": True}, timeout=rng.random() * 0.3 + 0.01)
        except httpx.TimeoutException:
            return

    async def _nonsense(self, http: httpx.AsyncClient, rng: random.Random) -> None:
        url = rng.choice(
            ["data:image/png;base64,AAAA", "file:///etc/passwd", "https://127.0.0.1/x", "nothing"]
        )
        part = {"type": "image_url", "image_url": {"url": url}}
        fields = rng.choice([{}, {"temprature": 1}, {"visual_budget": "900%"}])
        reply = await http.post(CHAT, json={"messages": [{"role": "user", "content": [part]}], **fields})
        if reply.status_code not in (400, 429):
            self.wrong.append(f"{reply.status_code} for {url} {fields}")

    async def _too_long(self, http: httpx.AsyncClient, rng: random.Random) -> None:
        text = "word " * rng.randrange(1000, 50_000)
        reply = await http.post(CHAT, json={"messages": [{"role": "user", "content": text}]})
        if reply.status_code not in (400, 429):
            self.wrong.append(f"{reply.status_code} for {len(text)} letters")


@pytest.mark.stress
@pytest.mark.timeout(0)
def test_soak(model: Any, ask: Callable[..., Any]) -> None:
    process = psutil.Process()
    with live_server(model, EngineConfig(max_sequences=16, kv_blocks=1024), max_queue=32) as server:
        soak = Soak(server, ask)
        asyncio.run(soak.run(SECONDS / 3))
        server.eventually(server.nothing_held, 60)
        gc.collect()
        memory, files = process.memory_info().rss, process.num_fds()
        third = time.monotonic()
        asyncio.run(soak.run(2 * SECONDS / 3))
        server.eventually(server.nothing_held, 60)
        server.front.engine.engine.check_integrity()
        gc.collect()
        growth, more_files = process.memory_info().rss - memory, process.num_fds() - files
        early = sorted(wait for when, wait in soak.waits if when < third)
        late = sorted(wait for when, wait in soak.waits if when >= third)
        figures = {
            "seconds": SECONDS,
            "clients": CLIENTS,
            "requests": dict(soak.counts),
            "checked": len(soak.waits),
            "wrong": len(soak.wrong),
            "memory_growth_bytes": growth,
            "file_descriptors_more": more_files,
            "median_seconds_first_third": early[len(early) // 2],
            "median_seconds_after": late[len(late) // 2],
            "longest_seconds": max(early[-1], late[-1]),
        }
        print("\n" + json.dumps(figures))
        assert not soak.wrong, soak.wrong[:5]
        assert soak.counts["ask"] and soak.counts["stream"] and len(soak.waits) > 20
        assert growth < MOST_GROWTH and more_files <= 8
        assert late[len(late) // 2] < 3 * early[len(early) // 2] + 0.5
