"""64 clients against a server process, most of them badly behaved: nothing leaks and nobody gets a wrong answer.

The short one runs by default; `pytest -m stress` runs the long one (FOVEATE_STRESS_SECONDS, 300 by default). With
FOVEATE_SOAK_OUTPUT=FILE it writes its figures there:

    FOVEATE_SOAK_OUTPUT=results/serve/soak.json python -m pytest -m stress tests/serve/test_serve_soak.py
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from soak_client import Known, Soak, answered_before, chat, send
from soak_figures import Usage, memory_of, part, watched, write
from soak_server import SoakServer, soak_server

CLIENTS = 64
SCENES = 12
BUDGETS = ("full", "25%", 16, "50%", "auto")
FLAGS = ("--max-sequences", "16", "--max-queue", "24", "--kv-blocks", "256")
OUTPUT = "FOVEATE_SOAK_OUTPUT"
COMMAND = f"{OUTPUT}=results/serve/soak.json python -m pytest -m stress tests/serve/test_serve_soak.py"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SoakServer]:
    with soak_server(tmp_path, *FLAGS) as running:
        yield running


def requests(server: SoakServer, scenes: int) -> list[dict[str, Any]]:
    """Questions about pictures at several budgets, two pictures at once, long prompts, and no picture at all."""
    made = [server.scene(seed) for seed in range(scenes)]
    pictures, questions = [one["image"] for one in made], [one["question"] for one in made]
    bodies = [
        chat(question, [picture], max_tokens=24, visual_budget=BUDGETS[number % len(BUDGETS)])
        for number, (picture, question) in enumerate(zip(pictures, questions, strict=True))
    ]
    bodies += [chat(question, [pictures[0]], max_tokens=24) for question in questions[1:4]]
    bodies.append(chat(questions[0], pictures[:2], max_tokens=24, visual_budget="25%"))
    bodies += [chat(f"{'so ' * length}{questions[0]}", [pictures[0]], max_tokens=8) for length in (50, 150)]
    return [*bodies, chat("Hello", max_tokens=8)]


async def soak(
    server: SoakServer, known: Sequence[Known], picture: str, seconds: float
) -> tuple[Soak, list[Usage]]:
    """What the clients saw, and what the process used meanwhile."""
    clients = Soak(port=server.port, known=known, picture=picture)
    async with watched(server, seconds) as used:
        await clients.run(seconds, CLIENTS)
    return clients, used


async def alone(server: SoakServer, known: Sequence[Known]) -> float:
    """Asks each request twice with nobody else about: the server's processor seconds of a request in the second round.

    Caches are then as full as they were before, and what else the machine does is out of the figure.
    """
    for _ in range(2):
        began = server.processor_seconds()
        for one in known:
            reply = await send(server.port, json.dumps(one.body).encode())
            assert reply is not None and reply.status == 200, reply
            assert reply.json()["choices"][0]["message"]["content"] == one.text
    return (server.processor_seconds() - began) / len(known)


def run(server: SoakServer, seconds: float, scenes: int) -> dict[str, Any]:
    """A soak, all that must hold after one of any length, and its figures."""
    bodies = requests(server, scenes)
    known = asyncio.run(answered_before(server.port, bodies))
    assert len(known) > len(bodies) // 2 and len({one.text for one in known}) > 2, (
        "too little to tell right from wrong"
    )
    alone_before = asyncio.run(alone(server, known))
    before = server.usage()
    clients, used = asyncio.run(soak(server, known, server.scene(0)["image"], seconds))
    metrics = server.rest()
    alone_after = asyncio.run(alone(server, known))
    after = server.usage()
    figures = {
        "seconds": seconds,
        "clients": CLIENTS,
        "flags": " ".join(FLAGS),
        "known_requests": len(known),
        "outcomes": dict(sorted(clients.counts.items())),
        "wrong_answers": len(clients.wrong),
        "unexpected_replies": len(clients.surprises),
        "blocks_in_use_afterwards": int(metrics['foveate:kv_blocks{state="used"}']),
        "engine_restarts": int(metrics["foveate:engine_restarts_total"]),
        "preemptions": int(metrics["foveate:num_preemptions_total"]),
        "descriptors": {"before": before["descriptors"], "after": after["descriptors"]},
        "threads": {"before": before["threads"], "after": after["threads"]},
        "memory_mib": memory_of(used, before["memory"], seconds),
        "processor_seconds_of_one_alone": {"before": round(alone_before, 3), "after": round(alone_after, 3)},
        "median_seconds": {
            name: round(statistics.median(part(clients.latencies, seconds, start, end)), 3)
            for name, start, end in (("middle", 0.33, 0.67), ("end", 0.67, 1.0))
        },
    }
    assert not clients.wrong, clients.wrong[:3]
    assert not clients.surprises, clients.surprises[:3]
    assert clients.counts["answered, whole"] and clients.counts["answered, streamed"]
    assert clients.counts["left before the end"] and clients.counts["told to come again"]
    assert figures["engine_restarts"] == metrics["foveate:engine_failed_steps_total"] == 0
    assert after["descriptors"] <= before["descriptors"] + 2, figures[
        "descriptors"
    ]  # sockets of the last probes
    (entry,) = server.listed()
    assert (entry["url"], entry["state"], entry["running"], entry["waiting"]) == (server.url, "ready", 0, 0)
    assert server.stop() == 0
    assert server.listed() == []
    log = server.log.read_text(encoding="utf-8")
    assert "Traceback" not in log, log[-3000:]
    return figures


@pytest.mark.timeout(900)
def test_a_short_soak(server: SoakServer) -> None:
    run(server, seconds=8, scenes=5)


@pytest.mark.stress
@pytest.mark.timeout(7200)
def test_a_long_soak(server: SoakServer) -> None:
    """Beside what holds of a short one: neither memory nor latency goes on growing."""
    figures = run(server, float(os.environ.get("FOVEATE_STRESS_SECONDS", "300")), SCENES)
    if OUTPUT in os.environ:
        write(figures, Path(os.environ[OUTPUT]), COMMAND)
    memory, latency, lone = (
        figures[name] for name in ("memory_mib", "median_seconds", "processor_seconds_of_one_alone")
    )
    assert memory["end"] <= memory["middle"] * 1.1 + 32, memory
    assert latency["end"] <= latency["middle"] * 2.5, latency
    assert lone["after"] <= lone["before"] * 1.5 + 0.02, lone
