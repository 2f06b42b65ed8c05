"""What is measured of the server: its cost over the bare engine, and its speed beside other servers.

Owns which arms meet in which part and how their figures are put together. Knows no command line and no result file.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import models
from engine_parts.figures import agreement, ratios, spread
from engine_parts.ledger import Ledger
from engine_parts.throughput import some
from engine_parts.workload import Item, make_items, picture
from serve_parts.bare import BareEngine
from serve_parts.client import LoadError, Reply, closed_loop, request_body
from serve_parts.servers import NOT_INSTALLED, Server, ServerError

WARMING = 900  # seeds from here on are of requests that are not measured


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured.

    Attributes:
        requests: of one repetition, `concurrency` at once.
        serial_requests: of these, those that a server gets that answers one at a time; at least `concurrency`.
        alone: requests of one repetition that are sent one after the other, for the time to first token.
    """

    repetitions: int = 5
    requests: int = 48
    serial_requests: int = 16
    concurrency: int = 16
    alone: int = 8
    prompt_tokens: tuple[int, int] = (20, 200)
    output_tokens: tuple[int, int] = (16, 128)


FULL = Size()
QUICK = Size(
    repetitions=2,
    requests=4,
    serial_requests=2,
    concurrency=2,
    alone=2,
    prompt_tokens=(20, 40),
    output_tokens=(4, 8),
)
Arm = Callable[[Sequence[Item]], dict[str, Any]]


class Bench:
    """One model in one number format; arms are started and warmed when they are first asked for.

    Args:
        model: "smolvlm", "llava", "fovea-nano" or a folder.
        pythons: of the peers that are installed.
    """

    def __init__(
        self, model: str, dtype: str, threads: int, size: Size, pythons: Mapping[str, Path], ledger: Ledger
    ) -> None:
        self._model, self._dtype, self._threads = model, dtype, threads
        self.size, self.pythons, self.ledger = size, pythons, ledger
        self._servers: dict[str, Server] = {}

    @cached_property
    def folder(self) -> Path:
        return models.folder_of(self._model)

    @cached_property
    def bare(self) -> BareEngine:
        engine = BareEngine(self.folder, self._dtype)
        items = self.items(WARMING, count=2, engine=engine)
        engine.closed_loop(items, _pictures(items), 2)
        return engine

    def items(self, seed: int, *, count: int | None = None, engine: BareEngine | None = None) -> list[Item]:
        """Requests of this run's size; no two share a picture."""
        tokenizer = (engine or self.bare).model.tokenizer
        return make_items(
            count or self.size.requests,
            seed,
            lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]),
            prompt_tokens=self.size.prompt_tokens,
            output_tokens=self.size.output_tokens if seed < WARMING else (4, 4),
        )

    def close(self) -> None:
        for server in self._servers.values():
            server.close()

    # -- arms ----------------------------------------------------------------------------------------------

    def server(self, name: str) -> Server:
        """Started and warmed.

        Raises:
            ServerError: it does not start.
            LoadError: it cannot serve this model.
        """
        if name not in self._servers:
            server = Server(name, self.folder, self._dtype, self._threads, self.pythons.get(name))
            self._servers[name] = server
            self._ask(server, self.items(WARMING + 1, count=2), 2)
        return self._servers[name]

    def _ask(self, server: Server, items: Sequence[Item], concurrency: int) -> dict[str, Any]:
        bodies = [
            request_body(item, png, server.fields(item))
            for item, png in zip(items, _pictures(items), strict=True)
        ]
        with server.awake():
            used = server.processor_seconds()
            began = time.perf_counter()
            replies = asyncio.run(closed_loop(server.port, bodies, concurrency))
            seconds = time.perf_counter() - began
            used = server.processor_seconds() - used
        return _row(items, replies, seconds, used)

    def _bare(self, items: Sequence[Item], concurrency: int) -> dict[str, Any]:
        pictures = _pictures(items)
        used, began = time.process_time(), time.perf_counter()
        replies = self.bare.closed_loop(items, pictures, concurrency)
        return _row(items, replies, time.perf_counter() - began, time.process_time() - used)

    def _arm(self, name: str, concurrency: int) -> Arm:
        if name == "engine":
            return lambda items: self._bare(items, concurrency)
        return lambda items: self._ask(self.server(name), items, concurrency)

    # -- parts ---------------------------------------------------------------------------------------------

    def throughput(self) -> dict[str, Any]:
        """Output tokens a second with several requests in flight: the bare engine, our server, other servers."""
        names, failed = ["engine", "foveate"], {}
        for name in ("transformers", "vllm"):
            if name not in self.pythons:
                failed[name] = NOT_INSTALLED.format(name)
                continue
            try:
                self.server(name)
                names.append(name)
            except (ServerError, LoadError) as error:
                failed[name] = f"failed: {error.what}"
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for repetition in range(self.size.repetitions):
            items = self.items(repetition + 1)
            for name in _turned(names, repetition):
                places = list(range(len(items)))
                if name == "transformers":
                    places = some(items, self.size.serial_requests, repetition)[: self.size.serial_requests]
                arm = self._arm(name, self.size.concurrency)
                row = self.ledger.measure(
                    f"throughput/{repetition}/{name}", partial(arm, [items[place] for place in places])
                )
                rows[name].append({**row, "places": places})
        return {**_throughput_figures(rows), "size": asdict(self.size), "not_measured": failed}

    def first_token(self) -> dict[str, Any]:
        """Time to the first words of a request alone: our server's less the bare engine's, request by request."""
        names = ["engine", "foveate"]
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for repetition in range(self.size.repetitions):
            for number, item in enumerate(self.items(repetition + 101, count=self.size.alone)):
                for name in _turned(names, number):
                    arm = self._arm(name, 1)
                    key = f"first_token/{repetition}/{number}/{name}"
                    rows[name].append(self.ledger.measure(key, partial(arm, [item])))
        first = {name: [row["first"][0] * 1000 for row in rows[name]] for name in names}
        more = [ours - bare for ours, bare in zip(first["foveate"], first["engine"], strict=True)]
        return {
            "milliseconds": {name: spread(values, 2) for name, values in first.items()},
            "difference_milliseconds": spread(more, 2),
            "agreement": _agreement(rows["engine"], rows["foveate"]),
        }


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "throughput": Bench.throughput,
    "first_token": Bench.first_token,
}


def _turned(names: Sequence[str], by: int) -> list[str]:
    turn = by % len(names)
    return [*names[turn:], *names[:turn]]


def _pictures(items: Sequence[Item]) -> list[bytes]:
    """PNG files: every decoder gives the same pixels."""
    files = []
    for item in items:
        buffer = io.BytesIO()
        picture(item.picture).save(buffer, format="PNG")
        files.append(buffer.getvalue())
    return files


def _row(items: Sequence[Item], replies: Sequence[Reply], seconds: float, used: float) -> dict[str, Any]:
    """One measurement as JSON.

    Raises:
        LoadError: an answer is shorter or longer than asked for: its speed would mean nothing.
    """
    for item, reply in zip(items, replies, strict=True):
        if reply.tokens != item.output_tokens:
            raise LoadError(
                f"An answer has {reply.tokens} tokens instead of {item.output_tokens}",
                fix="Look at how this server is told to ignore ends.",
            )
    return {
        "seconds": seconds,
        "processor_seconds": used,
        "tokens": sum(reply.tokens for reply in replies),
        "first": [reply.first for reply in replies],
        "texts": [reply.text for reply in replies],
    }


def _throughput_figures(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Speeds, our speed by that of others, and agreement of answers; processor time a token beside them."""
    speeds = {name: [row["tokens"] / row["seconds"] for row in each] for name, each in rows.items()}
    costs = {name: [row["processor_seconds"] / row["tokens"] for row in each] for name, each in rows.items()}
    others = [name for name in rows if name != "foveate"]
    return {
        "tokens_per_second": {name: spread(values, 1) for name, values in speeds.items()},
        "ratios": {name: ratios(speeds["foveate"], speeds[name]) for name in others},
        "processor_milliseconds_per_token": {
            name: spread([1000 * cost for cost in values]) for name, values in costs.items()
        },
        "processor_ratios": {name: ratios(costs["foveate"], costs[name]) for name in others},
        "agreement": {name: _agreement(rows["foveate"], rows[name]) for name in others},
    }


def _agreement(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of texts, whose outer blanks some servers cut off."""
    mine: list[str] = []
    other: list[str] = []
    for our_row, their_row in zip(ours, theirs, strict=True):
        places = their_row.get("places", range(len(their_row["texts"])))
        mine += [our_row["texts"][place].strip() for place in places]
        other += [text.strip() for text in their_row["texts"]]
    return agreement(mine, other)
