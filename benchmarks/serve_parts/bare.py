"""The engine without HTTP: the same requests from the same bytes, in a plain loop of its steps."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from engine_parts.workload import Item
from foveate.engine import Completion, Engine, EngineConfig, SamplingParameters
from foveate.models import load
from serve_parts.client import Reply
from serve_parts.servers import KV_BLOCKS, MAX_SEQUENCES


class BareEngine:
    """An engine of the same size as the servers'."""

    def __init__(self, folder: Path, dtype: str) -> None:
        self.model = load(folder, dtype=dtype)
        self.engine = Engine(self.model, EngineConfig(max_sequences=MAX_SEQUENCES, kv_blocks=KV_BLOCKS))

    def closed_loop(self, items: Sequence[Item], pictures: Sequence[bytes], concurrency: int) -> list[Reply]:
        """Every request once, `concurrency` of them in flight at any time."""
        waiting = deque(enumerate(zip(items, pictures, strict=True)))
        flying: dict[str, tuple[int, float]] = {}
        answers = {place: Completion(index=0) for place in range(len(items))}
        first: dict[int, float] = {}
        ended: dict[int, float] = {}
        while waiting or flying:
            while waiting and len(flying) < concurrency:
                place, (item, picture) = waiting.popleft()
                began = time.perf_counter()
                flying[self._add(item, picture)] = (place, began)
            for output in self.engine.step():
                place, began = flying[output.request_id]
                answers[place].add(output)
                if output.text:
                    first.setdefault(place, time.perf_counter() - began)
                if output.finished:
                    ended[place] = time.perf_counter() - began
                    del flying[output.request_id]
        return [
            Reply(
                text=answers[place].text,
                tokens=len(answers[place].token_ids),
                first=first[place],
                seconds=ended[place],
            )
            for place in range(len(items))
        ]

    def _add(self, item: Item, picture: bytes) -> str:
        parameters = SamplingParameters(max_tokens=item.output_tokens, min_tokens=item.output_tokens)
        return self.engine.add_request(item.messages, parameters, images=[picture])
