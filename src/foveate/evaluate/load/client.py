"""One streamed request, timed where its bytes arrive.

Owns reading server-sent events and what went wrong. Times are seconds on `time.perf_counter`.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from foveate.evaluate.load.settings import LoadError


@dataclass(kw_only=True)
class Sample:
    """One request.

    Attributes:
        sent: when its first byte left.
        arrivals: when each chunk with a part of the answer came.
        ended: when the stream was over.
        output_tokens: as the server's usage says, else the number of chunks (`counted` says which).
        prompt_tokens, image_tokens, image_tokens_kept, cached_tokens: as the server's usage says; None if it does not.
        failure: "" or a few words: HTTP 429, timeout, ...
        message: of the failure, shortened.
    """

    sent: float
    arrivals: list[float] = field(default_factory=list)
    ended: float = 0.0
    output_tokens: int = 0
    counted: str = "chunks"
    prompt_tokens: int | None = None
    image_tokens: int | None = None
    image_tokens_kept: int | None = None
    cached_tokens: int | None = None
    failure: str = ""
    message: str = ""


async def only_model(client: httpx2.AsyncClient, base: str) -> str:
    """The name of the one model that a server lists.

    Raises:
        LoadError: no server there, or it lists none or several.
    """
    try:
        reply = await client.get(f"{base}/models")
        reply.raise_for_status()
        names = [str(entry["id"]) for entry in reply.json()["data"]]
    except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
        raise LoadError(
            f"{base}/models does not answer as a server should",
            why=f"{type(error).__name__}: {str(error)[:200]}",
            fix="Check that the server runs, or name the model with --model.",
        ) from error
    if len(names) != 1:
        listed = ", ".join(names[:10]) or "none"
        raise LoadError(f"the server lists {len(names)} models", why=listed, fix="Name one with --model.")
    return names[0]


async def ask(client: httpx2.AsyncClient, base: str, body: Mapping[str, Any]) -> Sample:
    """Sends one request and reads its answer; a failure is part of the sample, not raised."""
    sample = Sample(sent=time.perf_counter())
    try:
        async with client.stream("POST", f"{base}/chat/completions", json=body) as reply:
            if reply.status_code != 200:
                await reply.aread()
                _fail(sample, f"HTTP {reply.status_code}", reply.text)
            else:
                await _read(sample, reply)
    except httpx2.TimeoutException as error:
        _fail(sample, "timeout", type(error).__name__)
    except httpx2.TransportError as error:
        _fail(sample, "connection", f"{type(error).__name__}: {error}")
    sample.ended = time.perf_counter()
    if not sample.failure and not sample.arrivals:
        _fail(sample, "empty answer", "the stream ended without any text")
    return sample


async def _read(sample: Sample, reply: httpx2.Response) -> None:
    """Takes the events of a stream until [DONE]."""
    done = False
    async for data in _events(reply):
        now = time.perf_counter()
        if data.strip() == "[DONE]":
            done = True
            continue
        try:
            chunk = json.loads(data)
            if chunk.get("error"):
                _fail(sample, "error event", json.dumps(chunk["error"]))
                return
            if any(_says_something(choice.get("delta") or {}) for choice in chunk.get("choices") or ()):
                sample.arrivals.append(now)
            if chunk.get("usage"):
                _count(sample, chunk["usage"])
        except (ValueError, AttributeError, TypeError) as error:
            _fail(sample, "broken event", f"{type(error).__name__}: {data[:200]}")
            return
    if not done:
        _fail(sample, "cut stream", "it ended without [DONE]")
    if sample.counted == "chunks":
        sample.output_tokens = len(sample.arrivals)


async def _events(reply: httpx2.Response) -> AsyncIterator[str]:
    """The data of each server-sent event; comments and other fields are passed over."""
    lines: list[str] = []
    async for line in reply.aiter_lines():
        if line.startswith("data:"):
            lines.append(line[5:].removeprefix(" "))
        elif not line and lines:
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)


def _says_something(delta: Mapping[str, Any]) -> bool:
    """Whether it carries a part of the answer; a role alone does not."""
    return any(
        delta.get(name) for name in ("content", "reasoning", "reasoning_content", "refusal", "tool_calls")
    )


def _count(sample: Sample, usage: Mapping[str, Any]) -> None:
    sample.output_tokens, sample.counted = int(usage["completion_tokens"]), "usage"
    sample.prompt_tokens = usage.get("prompt_tokens")
    sample.image_tokens, sample.image_tokens_kept = usage.get("image_tokens"), usage.get("image_tokens_kept")
    sample.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")


def _fail(sample: Sample, failure: str, message: str) -> None:
    sample.failure, sample.message = failure, " ".join(message.split())[:300]
