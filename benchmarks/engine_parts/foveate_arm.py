"""The engine under measurement: all requests at once, as they arrive, and one alone."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine_parts.workload import Item, picture
from foveate.engine import AsyncEngine, Engine, EngineConfig, SamplingParameters
from foveate.models import load

CONFIG = EngineConfig(max_sequences=32, memory_bytes=2 << 30)  # 2 GiB, as the peers are given


def can_quantise() -> bool:
    """Whether this version of the package loads weights as int8."""
    return "quantise" in inspect.signature(load).parameters


def _parameters(item: Item) -> SamplingParameters:
    return SamplingParameters(max_tokens=item.output_tokens, ignore_end=True)


class FoveateArm:
    """Args:
    quantise: "int8" for weights of 8 bits.
    """

    def __init__(self, folder: Path, dtype: str, quantise: str | None = None) -> None:
        more = {} if quantise is None else {"quantise": quantise}
        self.model = load(folder, dtype=dtype, **more)
        self.engine = Engine(self.model, CONFIG)

    def prompts(self, items: Sequence[Item]) -> list[str]:
        """Texts after the chat template, the picture's place unexpanded, for peers that have no template."""
        return [
            self.model.tokenizer.apply_chat_template(
                item.messages,
                chat_template=self.model.chat_template,
                tokenize=False,
                add_generation_prompt=True,
            )
            for item in items
        ]

    def all_at_once(self, items: Sequence[Item]) -> dict[str, Any]:
        """From pictures and messages to the last token of the last answer."""
        images = [picture(item.picture) for item in items]
        began = time.perf_counter()
        names = [
            self.engine.add_request(item.messages, _parameters(item), images=[image])
            for item, image in zip(items, images, strict=True)
        ]
        answers = self.engine.run_to_completion()
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "token_ids": [answers[name][0].token_ids for name in names]}

    def alone(self, item: Item) -> dict[str, Any]:
        """One request on an idle engine: seconds to the first token, preprocessing included, and of decoding."""
        image, first = picture(item.picture), 0.0
        tokens: list[int] = []
        began = time.perf_counter()
        self.engine.add_request(item.messages, _parameters(item), images=[image])
        while self.engine.has_work:
            for output in self.engine.step():
                first = first or time.perf_counter()
                tokens += output.token_ids
        ended = time.perf_counter()
        return {"first_token": first - began, "seconds": ended - first, "token_ids": tokens}

    def arriving(self, items: Sequence[Item]) -> dict[str, Any]:
        """Each request at its time of arrival, through the asyncio front; seconds from arrival, per request."""
        return asyncio.run(self._arriving(items))

    async def _arriving(self, items: Sequence[Item]) -> dict[str, Any]:
        images = [picture(item.picture) for item in items]
        async with AsyncEngine(self.model, CONFIG) as engine:
            began = time.perf_counter()

            async def one(item: Item, image: Any) -> tuple[float, float]:
                await asyncio.sleep(max(0.0, began + item.arrival - time.perf_counter()))
                first = 0.0
                async for output in engine.stream(item.messages, _parameters(item), images=[image]):
                    if output.token_ids:
                        first = first or time.perf_counter()
                arrived = began + item.arrival
                return first - arrived, time.perf_counter() - arrived

            pairs = await asyncio.gather(*(one(*pair) for pair in zip(items, images, strict=True)))
        return {"first_token": [pair[0] for pair in pairs], "whole": [pair[1] for pair in pairs]}
