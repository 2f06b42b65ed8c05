"""Everything at once against a server that speculates: each reply is that of one that does not, and nothing leaks.

Chats with guesses and without, sampled, constrained, in several answers, streamed; callers who leave; streams with
frames and questions. The short one runs by default; `pytest -m stress` runs the long one (FOVEATE_STRESS_SECONDS, 600
by default). With FOVEATE_MIXED_OUTPUT=FILE it writes its figures there:

    FOVEATE_MIXED_OUTPUT=results/serve/mixed.json python -m pytest -m stress tests/serve/test_serve_mixed.py
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from mixed_client import CHAT, Known, Mixed, Script, answers_of, client_of, told
from PIL import Image
from soak_client import GIVE_UP, MARGIN, chat
from soak_figures import memory_of, part, watched, write
from soak_server import SoakServer, soak_server

CLIENTS = {"askers": 24, "leavers": 8, "watchers": 3, "rude": 1}
TIDES = 15  # in each many come, then few: a draft pays in small batches
# Few blocks: answers are preempted and computed anew, guesses and all.
FLAGS = ("--max-sequences", "16", "--max-queue", "24", "--kv-blocks", "80")
OUTPUT = "FOVEATE_MIXED_OUTPUT"
COMMAND = f"{OUTPUT}=results/serve/mixed.json python -m pytest -m stress tests/serve/test_serve_mixed.py"
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue", "green"]}, "count": {"type": "integer", "maximum": 30}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}
STREAM = {"vision_seconds": 2, "reply_tokens": 6, "text_tokens": 16, "answer_tokens": 8}


def requests(server: SoakServer, scenes: int) -> list[tuple[str, dict[str, Any]]]:
    """Each kind of request about pictures of the world, at several budgets."""
    made = [server.scene(seed) for seed in range(scenes)]
    pictures, questions = [one["image"] for one in made], [one["question"] for one in made]
    held = {"response_format": {"type": "json_schema", "json_schema": {"name": "seen", "schema": SCHEMA}}}
    bodies: list[tuple[str, dict[str, Any]]] = []
    for number, (picture, question) in enumerate(zip(pictures, questions, strict=True)):
        budget = {"visual_budget": ("full", "25%", 16)[number % 3]}
        sampled = {"temperature": 0.9, "top_p": 0.95, "seed": number, "ignore_eos": True}

        def add(kind: str, picture: str = picture, question: str = question, **fields: Any) -> None:
            bodies.append((kind, chat(question, [picture], **fields)))

        add("greedy", max_tokens=24, **budget)
        add("greedy, long", max_tokens=48, ignore_eos=True)
        # What heads have learned to guess.
        add("greedy, listing", question="List every object with its place.", max_tokens=72)
        add("sampled", max_tokens=32, **sampled, **budget)
        add("several answers", max_tokens=16, n=3, **sampled)
        add(
            "constrained", max_tokens=40, **held, **({} if number % 2 else {"temperature": 1, "seed": number})
        )
        add("penalties", max_tokens=24, frequency_penalty=0.5, repetition_penalty=1.3, **sampled)
    return bodies


async def answered_plainly(port: int, asked: Sequence[tuple[str, dict[str, Any]]]) -> list[Known]:
    """Each request with its answers, alone on a plain server. Left out are those whose answers hang on a rounding
    error: greedy ones with two likeliest tokens next to each other, and any that change among others."""
    async with client_of(port) as http:
        known = []
        for kind, body in asked:
            greedy = kind.startswith("greedy")
            reply = await http.post(
                CHAT, json={**body, **({"logprobs": True, "top_logprobs": 2} if greedy else {})}
            )
            assert reply.status_code == 200, reply.text
            found = reply.json()
            tops = [
                [one["logprob"] for one in token["top_logprobs"]]
                for choice in found["choices"]
                for token in (choice["logprobs"]["content"] if greedy else ())
            ]
            if all(best - second > MARGIN for best, second in tops):
                known.append(Known(kind=kind, body=body, answers=answers_of(found)))
        together: list[httpx.Response] = []
        for start in range(0, len(known), 12):
            together += await asyncio.gather(
                *(http.post(CHAT, json=one.body) for one in known[start : start + 12])
            )
    return [
        one
        for one, reply in zip(known, together, strict=True)
        if answers_of(reply.raise_for_status().json()) == one.answers
    ]


def scripts(server: SoakServer) -> list[Script]:
    """Two streams of unrelated pictures; in the second a frame comes too soon and one too late: both are dropped."""
    made = []
    for first, times in ((20, (0, 1, 2, 3, 4, 5)), (40, (0, 1, 1.4, 2, 0.5, 3))):
        pictures = [server.scene(first + number)["image"] for number in range(len(times))]
        with Image.open(io.BytesIO(base64.b64decode(pictures[0].partition(",")[2]))) as picture:
            width, height = picture.size
        made.append(
            Script(
                opening={"width": width, "height": height, **STREAM},
                frames=tuple(
                    {"image": image, "seconds": when} for image, when in zip(pictures, times, strict=True)
                ),
                question={"question": "How many objects are there?"},
            )
        )
    return made


async def watched_plainly(port: int, script: Script) -> Script:
    """With what a plain server says, asked after every frame."""
    async with client_of(port) as http:
        opened = (await http.post("/v1/streams", json=script.opening)).raise_for_status().json()
        path, reports, answers = f"/v1/streams/{opened['id']}", [], []
        for frame in script.frames:
            reply = await http.post(f"{path}/frames", json=frame)
            reports.append(told(reply.raise_for_status().json()))
            reply = await http.post(f"{path}/questions", json=script.question)
            answers.append(reply.raise_for_status().json()["text"])
        (await http.delete(path)).raise_for_status()
    assert len(set(answers)) > 1, "a stream that always says the same tells nothing"
    return replace(script, reports=tuple(reports), answers=tuple(answers))


def plain_replies(folder: Path, scenes: int) -> tuple[list[Known], list[Script], int]:
    """What a server without speculation says, and how many requests were left out."""
    with soak_server(folder, *FLAGS) as plain:
        asked = requests(plain, scenes)
        known = asyncio.run(answered_plainly(plain.port, asked))
        made = [asyncio.run(watched_plainly(plain.port, script)) for script in scripts(plain)]
        assert plain.stop() == 0
    assert len(known) > len(asked) * 0.7, "too little to tell right from wrong"
    assert {kind for kind, _ in asked} == {one.kind for one in known}
    assert len({one.answers for one in known}) > len(known) // 2
    return known, made, len(asked) - len(known)


def draft_of(server: SoakServer, known: Sequence[Known]) -> str:
    """What guesses there, by the trace of a long reply."""
    body = next(one.body for one in known if one.kind == "greedy, long")
    reply = httpx.post(f"{server.url}{CHAT}", json={**body, "foveate_trace": True}, timeout=GIVE_UP)
    return str(reply.raise_for_status().json()["foveate_trace"]["speculation"]["draft"])


async def mixed(server: SoakServer, known: Sequence[Known], made: Sequence[Script], seconds: float) -> Any:
    """What the clients saw, and what the process used meanwhile."""
    async with client_of(server.port) as http:
        clients = Mixed(http=http, known=known, scripts=made)
        async with watched(server, seconds) as used:
            await clients.run(seconds, tide=seconds / TIDES, **CLIENTS)
    return clients, used


def run(folder: Path, seconds: float, scenes: int, draft: str) -> dict[str, Any]:
    """All that must hold after a mix of any length, and its figures."""
    known, made, left_out = plain_replies(folder, scenes)
    flags = (*FLAGS, "--speculate", draft)
    with soak_server(folder, *flags) as server:
        drafted_by, before = draft_of(server, known), server.usage()
        clients, used = asyncio.run(mixed(server, known, made, seconds))
        metrics = server.rest()
        after = server.usage()
        figures = {
            "seconds": seconds,
            "clients": {**CLIENTS, "tides": TIDES},
            "flags": " ".join(flags),
            "draft": drafted_by,
            "known_requests": len(known),
            "left_out_for_rounding": left_out,
            "outcomes": dict(sorted(clients.counts.items())),
            "wrong_replies": len(clients.wrong),
            "unexpected_replies": len(clients.surprises),
            "guesses": {
                name: int(metrics[f"foveate:spec_decode_num_{name}_total"])
                for name in ("drafts", "draft_tokens", "accepted_tokens", "unpaid_passes")
            },
            "preemptions": int(metrics["foveate:num_preemptions_total"]),
            "engine_restarts": int(metrics["foveate:engine_restarts_total"]),
            "failed_steps": int(metrics["foveate:engine_failed_steps_total"]),
            "blocks_in_use_afterwards": int(metrics['foveate:kv_blocks{state="used"}']),
            "streams_open_afterwards": int(metrics["foveate:num_streams"]),
            "descriptors": {"before": before["descriptors"], "after": after["descriptors"]},
            "threads": {
                "before": before["threads"],
                "first_third": max(one["threads"] for one in part(used, seconds, 0, 1 / 3)),
                "after": after["threads"],
            },
            "memory_mib": memory_of(used, before["memory"], seconds),
        }
        check(clients, figures)
        assert server.stop() == 0
        assert server.listed() == []
        log = server.log.read_text(encoding="utf-8")
        assert "Traceback" not in log and "draft failed" not in log, log[-3000:]
    return figures


def check(clients: Mixed, figures: dict[str, Any]) -> None:
    assert not clients.wrong, clients.wrong[:3]
    assert not clients.surprises, clients.surprises[:3]
    counts = clients.counts
    for done in ("left before the end", "streams closed", "a comment", "a stream's answer", "questions left"):
        assert counts[done], f"nobody: {done}"
    for one in clients.known:
        assert counts[f"{one.kind}, whole"] + counts[f"{one.kind}, streamed"], f"nobody asked: {one.kind}"
    assert counts["plain"] and counts["may speculate"]
    assert figures["guesses"]["accepted_tokens"]
    assert figures["engine_restarts"] == figures["failed_steps"] == 0
    assert figures["blocks_in_use_afterwards"] == figures["streams_open_afterwards"] == 0
    assert figures["descriptors"]["after"] <= figures["descriptors"]["before"] + 2, figures["descriptors"]
    assert figures["threads"]["after"] <= figures["threads"]["first_third"], figures["threads"]


@pytest.mark.timeout(900)
def test_a_short_mix(tmp_path: Path) -> None:
    run(tmp_path, seconds=8, scenes=2, draft="ngram")


@pytest.mark.stress
@pytest.mark.timeout(7200)
def test_a_long_mix(tmp_path: Path) -> None:
    """Beside what holds of a short one: memory does not go on growing."""
    figures = run(tmp_path, float(os.environ.get("FOVEATE_STRESS_SECONDS", "600")), 6, draft="auto")
    if OUTPUT in os.environ:
        write(figures, Path(os.environ[OUTPUT]), COMMAND)
    memory = figures["memory_mib"]
    assert memory["end"] <= memory["middle"] * 1.05 + 16, memory
