"""Requests at once: how many a second a cell answers, and how long each waits for its first token.

A closed loop: as soon as one request ends the next begins, so as many as asked are always under way. Every answer has
the same length, or a method that makes the model ramble would look slow for the wrong reason. Knows no accuracy.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from foveate.engine import SamplingParameters
from foveate.errors import nearest
from foveate.evaluate.bench.asking import engine_for, resident_bytes, user_turn, visual_budget
from foveate.evaluate.bench.folder import RunFolder
from foveate.evaluate.bench.grid import FULL, NO_IMAGE, BenchError, Cell
from foveate.evaluate.run_files import Row

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

CONCURRENCIES = (1, 8, 32)
REQUESTS, REPEATS, ANSWER = 64, 3, 8
_FIXED = SamplingParameters(max_tokens=ANSWER, min_tokens=ANSWER, ignore_end=True)
Asked = dict[str, Any]


def cells_named(folder: RunFolder, names: Sequence[str]) -> list[Cell]:
    """Full tokens, then the run's cells of these names.

    Raises:
        BenchError: the run has no such cell.
    """
    known = {cell.name: cell for cell in folder.grid.cells}
    for name in names:
        if name not in known:
            raise BenchError(f"The run has no cell {name!r}", fix=nearest(name, known))
    return [known[name] for name in dict.fromkeys((FULL, *names))]


def run_speed(
    model: VisionLanguageModel,
    folder: RunFolder,
    cells: Sequence[Cell],
    *,
    clock: Callable[[], float],
    requests: int = REQUESTS,
    repeats: int = REPEATS,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Measures what the folder does not have yet, a row a cell and concurrency; refused cells are passed over."""
    pictures = _questions(folder, requests)
    for cell in cells:
        for concurrency in CONCURRENCIES:
            if cell.name in folder.refused or (cell.name, concurrency) in folder.speed:
                continue
            asked = [_request(folder, cell, question, picture) for question, picture in pictures]
            passes = [_one_pass(model, asked, concurrency, clock) for _ in range(repeats)]
            folder.add_speed(_row(cell, concurrency, passes))
            tell(f"{cell.name}, {concurrency} at once")


def _questions(folder: RunFolder, count: int) -> list[tuple[str, Image.Image]]:
    """Evenly from all families; each picture once, so that nothing is found in a cache."""
    items = list(folder.items.values())
    count = min(count, len(items))
    chosen = [items[place * len(items) // count] for place in range(count)]
    return [(item.turns[0].text, picture) for item in chosen if (picture := item.image()) is not None]


def _request(folder: RunFolder, cell: Cell, question: str, picture: Image.Image) -> Asked:
    """What `add_request` is given."""
    seen = cell.method != NO_IMAGE
    return {
        "prompt": [user_turn(question, with_image=seen)],
        "images": [picture] if seen else [],
        "visual": visual_budget(cell, question, folder),
    }


def _one_pass(
    model: VisionLanguageModel, asked: Sequence[Asked], concurrency: int, clock: Callable[[], float]
) -> Row:
    """All questions once through a fresh engine."""
    engine = engine_for(model, concurrency, clock)
    waiting, under_way, ended = list(reversed(asked)), set[str](), list[str]()
    began = clock()
    while waiting or under_way:
        while waiting and len(under_way) < concurrency:
            under_way.add(engine.add_request(parameters=_FIXED, **waiting.pop()))
        for output in engine.step():
            if output.finished:
                under_way.remove(output.request_id)
                ended.append(output.request_id)
    seconds = clock() - began
    found = [engine.request_statistics(name) for name in ended]
    first = sorted(one.time_to_first_token or 0.0 for one in found if one is not None)
    counters = engine.statistics()
    return {
        "requests": len(ended),
        "requests_per_second": len(ended) / seconds,
        "first_token_median": 1000 * statistics.median(first),
        "first_token_95": 1000 * first[min(len(first) - 1, int(0.95 * len(first)))],
        "peak_cache_bytes": counters.most_blocks_in_use * engine.memory.block_bytes,
        "preemptions": counters.preemptions,
        "resident": resident_bytes(),
    }


def _row(cell: Cell, concurrency: int, passes: Sequence[Row]) -> dict[str, Any]:
    """Medians over the passes, and the spread of what is quoted most."""
    rates = [one["requests_per_second"] for one in passes]

    def median(name: str) -> float:
        return statistics.median(one[name] for one in passes)

    return {
        "cell": cell.name,
        "concurrency": concurrency,
        "requests": passes[0]["requests"],
        "answer_tokens": ANSWER,
        "passes": len(passes),
        "requests_per_second": median("requests_per_second"),
        "requests_per_second_spread": [min(rates), max(rates)],
        "milliseconds": {name: median(name) for name in ("first_token_median", "first_token_95")},
        "peak_cache_bytes": max(one["peak_cache_bytes"] for one in passes),
        "preemptions": max(one["preemptions"] for one in passes),
        "resident": passes[-1]["resident"],
    }
