"""Tokens per second of every arm on the same requests, side by side: repetition by repetition, in turning order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from engine_parts.figures import agreement, ratios, spread
from engine_parts.ledger import Ledger
from engine_parts.workload import Item

Arm = Callable[[Sequence[Item]], dict[str, Any]]
Batches = Callable[[Sequence[Item], int], dict[str, Any]]
SIZES = (4, 8, 16, 32)


def some(items: Sequence[Item], count: int, offset: int) -> list[int]:
    """Places of `count` requests whose output lengths are spread as those of all, others for each offset."""
    by_length = sorted(range(len(items)), key=lambda index: items[index].output_tokens)
    step = max(1, len(items) // count)
    return sorted(by_length[offset % step :: step])


def measure(
    ledger: Ledger,
    workloads: Sequence[Sequence[Item]],
    arms: Mapping[str, Arm],
    static: Batches | None,
    *,
    sequential_requests: int,
) -> dict[str, list[dict[str, Any]]]:
    """Measurements per arm, one per repetition; `places` says which requests it served.

    Sequential serving is served whole in the first repetition and in part in the others: it takes several
    times longer than all other arms together, and its speed does not depend on how many requests there are.
    Static batching is tried in all sizes in the first repetition; the fastest is used from then on.

    Args:
        workloads: requests of each repetition.
    """
    best = 0
    measured: dict[str, list[dict[str, Any]]] = {}
    for repetition, items in enumerate(workloads):
        names = [*arms, *(["static"] if static is not None else [])]
        turn = repetition % len(names)
        for name in names[turn:] + names[:turn]:
            key = f"{repetition}/{name}"
            places = list(range(len(items)))
            if name == "static" and static is not None:
                tried = [best] if best else sorted({min(size, len(items)) for size in SIZES})
                rows = {size: ledger.measure(f"{key}/{size}", partial(static, items, size)) for size in tried}
                best = min(rows, key=lambda size: rows[size]["seconds"])
                seconds = {str(size): row["seconds"] for size, row in rows.items()}
                row = {**rows[best], "size": best, "seconds_by_size": seconds}
            else:
                if name == "sequential" and repetition:
                    places = some(items, sequential_requests, repetition)
                chosen = [items[place] for place in places]
                row = ledger.measure(key, partial(arms[name], chosen))
            tokens = sum(items[place].output_tokens for place in places)
            measured.setdefault(name, []).append({**row, "places": places, "speed": tokens / row["seconds"]})
    return measured


def summarise(
    measured: Mapping[str, Sequence[Mapping[str, Any]]],
    workloads: Sequence[Sequence[Item]],
    *,
    ours: str = "foveate",
    decode: Callable[[Sequence[int]], str] | None = None,
) -> dict[str, Any]:
    """Output tokens per second, ratios of `ours` to every other arm, and agreement of the answers.

    Args:
        decode: text of token ids, to compare with arms that return texts.
    """
    speeds = {name: [row["speed"] for row in rows] for name, rows in measured.items()}
    others = [name for name in measured if name != ours]
    result: dict[str, Any] = {
        "requests": len(workloads[0]),
        "output_tokens": [sum(item.output_tokens for item in items) for items in workloads],
        "tokens_per_second": {name: spread(values, 1) for name, values in speeds.items()},
        "ratios": {name: ratios(speeds[ours], speeds[name]) for name in others},
        "agreement": {name: _agreement(measured[ours], measured[name], decode) for name in others},
    }
    if "static" in measured:
        first = measured["static"][0]
        total = sum(item.output_tokens for item in workloads[0])
        by_size = first["seconds_by_size"].items()
        result["static_tokens_per_second_by_size"] = {size: round(total / sec, 1) for size, sec in by_size}
        result["static_size"] = first["size"]
    if "sequential" in measured:
        result["sequential_requests"] = [len(row["places"]) for row in measured["sequential"]]
    return result


def _agreement(
    ours: Sequence[Mapping[str, Any]],
    theirs: Sequence[Mapping[str, Any]],
    decode: Callable[[Sequence[int]], str] | None,
) -> dict[str, Any]:
    mine: list[Sequence[Any]] = []
    other: list[Sequence[Any]] = []
    for our_row, their_row in zip(ours, theirs, strict=True):
        answers = [our_row["token_ids"][place] for place in their_row["places"]]
        if "texts" in their_row and decode is not None:
            mine += [decode(answer) for answer in answers]
            other += their_row["texts"]
        else:
            mine += answers
            other += their_row["token_ids"]
    return agreement(mine, other)
