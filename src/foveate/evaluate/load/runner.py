"""Runs the levels of a measurement one after another.

Owns the loops of concurrent requests. Knows nothing of how results are shown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import httpx2

from foveate.evaluate.load.client import Sample, ask, only_model
from foveate.evaluate.load.figures import DEFINITIONS, summarise
from foveate.evaluate.load.settings import LoadError, LoadSettings, base_url
from foveate.evaluate.load.workload import bodies

Progress = Callable[[int], None]  # requests done so far, warm-up included


async def measure(
    settings: LoadSettings, *, api_key: str | None = None, progress: Progress = lambda done: None
) -> dict[str, Any]:
    """Measures a server at every level of concurrency.

    Returns:
        JSON: the settings (without the key), the definitions, and a record of figures for each level.

    Raises:
        LoadError: no server there, no model named and several listed, or a level in which every request failed.
    """
    base = base_url(settings.url)
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    # As many connections as requests; what the server queues is the server's, what a pool queues would be ours.
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    levels, done = [], 0

    def count() -> None:
        nonlocal done
        done += 1
        progress(done)

    async with httpx2.AsyncClient(headers=headers, timeout=settings.timeout, limits=limits) as client:
        model = settings.model or await only_model(client, base)
        requests = bodies(settings, model)
        for concurrency in settings.concurrency:
            await _level(client, base, _prepare(requests, settings.warmup), concurrency, count)
            prepared = _prepare(requests, settings.requests)  # drawn before the clock starts
            cpu = time.process_time()
            samples = await _level(client, base, prepared, concurrency, count)
            levels.append(summarise(samples, concurrency=concurrency, cpu_seconds=time.process_time() - cpu))
            _require_success(samples, base)
    kept = {name: value for name, value in asdict(settings).items() if name != "url"}
    return {"settings": kept | {"model": model}, "definitions": DEFINITIONS, "levels": levels}


def _prepare(requests: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return [next(requests) for _ in range(count)]


async def _level(
    client: httpx2.AsyncClient,
    base: str,
    prepared: list[dict[str, Any]],
    concurrency: int,
    count: Callable[[], None],
) -> list[Sample]:
    """Sends all, at most `concurrency` at a time; samples in the order of their ends."""
    waiting, samples = iter(prepared), list[Sample]()

    async def worker() -> None:
        for body in waiting:  # shared: each takes the next one
            samples.append(await ask(client, base, body))
            count()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(prepared))):
            group.create_task(worker())
    return samples


def _require_success(samples: list[Sample], base: str) -> None:
    if all(sample.failure for sample in samples):
        first = samples[0]
        raise LoadError(
            f"every request to {base}/chat/completions failed",
            why=f"{first.failure}: {first.message}",
            fix="Correct what the server says; --pictures 0 asks with text alone.",
        )
