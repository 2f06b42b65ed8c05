"""What timing claims share: requests of a picture and a question, served alone or as a burst, on one thread.

Owns the clock (processor time of one thread, the engine's too, so that neighbours on the machine change little), the
warming up, and ratios of repeated runs. Pictures are noise: what is in them does not change how long they take.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foveate.claims.base import Progress, Row
from foveate.evaluate.statistics import Interval, t_interval

if TYPE_CHECKING:
    from PIL.Image import Image

    from foveate.claims.made_models import LanguageShape, TowerShape
    from foveate.engine import Engine, VisualBudget
    from foveate.models.base import VisionLanguageModel

_ENCODER_BYTES = 2**29
_QUESTION = "How many objects are there?"


@contextmanager
def one_thread() -> Iterator[None]:
    """Processor time of several threads would count waiting as work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def noise_pictures(count: int, *, side: int, seed: int) -> list[Image]:
    """Pictures that no cache has seen."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(seed)
    shape = (count, side, side, 3)
    return [Image.fromarray(pixels) for pixels in generator.integers(0, 256, shape, dtype=np.uint8)]


@dataclass(frozen=True, kw_only=True)
class Load:
    """A model's shape and what is asked of it.

    Attributes:
        side: of the pictures in pixels.
        alone: requests one after the other, of which the first warms up.
        burst: requests at once.
        tokens: of each answer in the burst.
        context: tokens that the cache has room for, per request of the burst.
    """

    language: LanguageShape
    tower: TowerShape
    side: int
    alone: int
    burst: int
    tokens: int
    context: int


def serve_load(
    model: VisionLanguageModel,
    load: Load,
    visual: VisualBudget | None,
    *,
    seed: int,
    progress: Progress = lambda done: None,
) -> Row:
    """Requests alone and then the burst, on a warm engine of their own; columns of `Bench.alone` and `.burst`."""
    from foveate.models.parts.pixel_cache import PixelCache

    pictures = noise_pictures(load.alone + load.burst, side=load.side, seed=seed)
    # Arms share the model and see the same pictures: none may find pixels that another has processed.
    model.pixels = PixelCache()
    with one_thread():
        bench = Bench(model, visual, slots=load.burst, context=load.context)
        alone = bench.alone(pictures[: load.alone])
        return {**alone, **bench.burst(pictures[load.alone :], load.tokens, progress)}


class Bench:
    """An engine of its own for one arm, warm, and what requests on it take."""

    def __init__(
        self, model: VisionLanguageModel, visual: VisualBudget | None, *, slots: int, context: int
    ) -> None:
        """`slots` requests run at once; the cache has room for that many of `context` tokens."""
        from foveate.engine import Engine, EngineConfig

        size = EngineConfig().block_size
        config = EngineConfig(
            block_size=size,
            kv_blocks=slots * (1 + -(-context // size)),
            max_sequences=slots,
            encoder_cache_bytes=_ENCODER_BYTES,
        )
        self.engine: Engine = Engine(model, config, clock=time.process_time)
        self.visual = visual

    def _ask(self, picture: Image, tokens: int) -> str:
        from foveate.engine import SamplingParameters

        content = [{"type": "image"}, {"type": "text", "text": _QUESTION}]
        return self.engine.add_request(
            [{"role": "user", "content": content}],
            SamplingParameters(max_tokens=tokens, ignore_end=True),
            images=[picture],
            visual=self.visual,
        )

    def alone(self, pictures: Sequence[Image]) -> Row:
        """What one request takes: medians of seconds over pictures after the first, which warms up; blocks.

        To be called before anything else runs, or the blocks are not those of one request.
        """
        seen = []
        for picture in pictures:
            name = self._ask(
                picture, 2
            )  # blocks are counted behind a step; with one token it would be the last
            self.engine.run_to_completion()
            seen.append(self.engine.request_statistics(name))
        found = [one for one in seen[1:] if one is not None]
        return {
            "visual_tokens": found[0].image_tokens_kept,
            "blocks_alone": self.engine.statistics().most_blocks_in_use,
            "first_token_seconds": _median([one.time_to_first_token for one in found]),
            "prepare_seconds": _median([one.preprocess_seconds for one in found]),
            "encode_seconds": _median([one.encode_seconds for one in found]),
            "prefill_seconds": _median([one.prefill_seconds for one in found]),
        }

    def burst(self, pictures: Sequence[Image], tokens: int, progress: Progress = lambda done: None) -> Row:
        """All requests there from the start, each with `tokens` of answer; preparing pictures counts."""
        before = self.engine.statistics()
        began = time.process_time()
        for picture in pictures:
            self._ask(picture, tokens)
        done = produced = 0
        while self.engine.has_work:
            for output in self.engine.step():
                produced += len(output.token_ids)
                done += output.finished
            progress(done)
        seconds = time.process_time() - began
        after = self.engine.statistics()
        return {
            "requests": len(pictures),
            "output_tokens": produced,
            "burst_seconds": seconds,
            "tokens_per_second": produced / seconds,
            "burst_encode_seconds": after.encode_seconds - before.encode_seconds,
            "most_blocks": after.most_blocks_in_use,
        }


def _median(values: Sequence[float | None]) -> float:
    return statistics.median(value for value in values if value is not None)


def ratio_of_runs(rows: Sequence[Row], column: str, first: str, second: str) -> Interval:
    """First arm over second, paired by seed; logarithms are averaged, with Student's interval."""
    by_seed: dict[int, dict[str, Any]] = defaultdict(dict)
    for row in rows:
        by_seed[row["seed"]][row["arm"]] = row[column]
    logs = t_interval([math.log(run[first] / run[second]) for run in by_seed.values()])
    ends = [math.exp(end) if math.isfinite(end) else end for end in (logs.low, logs.high)]
    return Interval(value=math.exp(logs.value), low=max(ends[0], 0.0), high=ends[1], method=logs.method)
