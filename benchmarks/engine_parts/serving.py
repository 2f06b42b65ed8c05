"""Latency under requests that arrive at random: the engine, and one-at-a-time serving of the same arrivals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from engine_parts.figures import latencies, percentile, queue_behind_one_server
from engine_parts.ledger import Ledger
from engine_parts.workload import Item, with_poisson_arrivals

LOAD = 0.7  # of the requests per second the engine finishes when all come at once


def measure(
    ledger: Ledger,
    items: Sequence[Item],
    capacity: float,
    serve: Callable[[Sequence[Item]], dict[str, Any]],
    alone: Mapping[str, Sequence[float]],
    *,
    repetitions: int,
) -> dict[str, Any]:
    """p50 and p95 of time to first token and to the end, in seconds from arrival, over all repetitions.

    Serving one at a time is not run but reckoned: with one server and requests in order of arrival, the times
    of each request alone give every latency exactly, and it would take many times longer to wait for.

    Args:
        capacity: requests per second of the engine.
        alone: "first_token" and "whole" seconds of each item under sequential `generate`.
    """
    rate = LOAD * capacity
    engine_first: list[float] = []
    engine_whole: list[float] = []
    queue_first: list[float] = []
    queue_whole: list[float] = []
    for repetition in range(repetitions):
        arriving = with_poisson_arrivals(items, rate, seed=repetition)
        # Pictures of their own: the engine's caches may hold nothing of them.
        fresh = [dataclasses.replace(item, picture=item.picture + 500 + 40 * repetition) for item in arriving]
        row = ledger.measure(f"poisson/{repetition}", partial(serve, fresh))
        engine_first += row["first_token"]
        engine_whole += row["whole"]
        arrivals = [item.arrival for item in arriving]
        first, whole = queue_behind_one_server(arrivals, alone["first_token"], alone["whole"])
        queue_first += first
        queue_whole += whole
    return {
        "load": LOAD,
        "requests_per_second": round(rate, 3),
        "requests": len(items),
        "repetitions": repetitions,
        "foveate": {"first_token": latencies(engine_first), "end": latencies(engine_whole)},
        "sequential": {"first_token": latencies(queue_first), "end": latencies(queue_whole)},
        "median_ratio": {
            "first_token": round(percentile(queue_first, 0.5) / percentile(engine_first, 0.5), 2),
            "end": round(percentile(queue_whole, 0.5) / percentile(engine_whole, 0.5), 2),
        },
    }
