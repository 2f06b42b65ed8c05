"""xLLM's scheduling on one processor core: continuous batching, and encoder and prefix caches.

Owns the workload, the three arms and the margins. Time is processor time of one thread, so that neighbours on the
machine change little; the engine's own clock is set to it.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from foveate.claims.base import (
    Arm,
    Claim,
    Estimate,
    Margin,
    Outcome,
    Paper,
    Progress,
    Row,
    Tier,
    Verdict,
    judge,
)
from foveate.evaluate.statistics import Interval, t_interval

if TYPE_CHECKING:
    from foveate.engine import Engine
    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import Prompt

STATIC, CONTINUOUS, CACHED = "static", "continuous", "cached"


@dataclass(frozen=True, kw_only=True)
class Load:
    """A burst of requests, all there from the start.

    Attributes:
        pictures, questions: every question is asked once about every picture, one round of pictures after another,
            so that a picture comes back only after all others.
        slots: answers that run at once. At most half as many as pictures: a cache that holds just the running
            pictures then never meets one again.
        typical, longest: answer lengths are geometric with this mean in tokens, and cut off there; skewed, as
            answers are.
    """

    pictures: int
    questions: int
    slots: int
    typical: int
    longest: int

    @property
    def requests(self) -> int:
        """How many there are."""
        return self.pictures * self.questions

    def lengths(self, seed: int) -> list[int]:
        """Tokens of each answer, the same for every arm."""
        drawn = np.random.default_rng(seed).geometric(1 / self.typical, self.requests)
        return [int(length) for length in np.clip(drawn, 2, self.longest)]


LOADS = {
    Tier.SMOKE: Load(pictures=8, questions=4, slots=4, typical=10, longest=40),
    Tier.CLAIM: Load(pictures=16, questions=4, slots=8, typical=24, longest=96),
}


class BatchingAndCaches(Claim):
    """Throughput and time to first token of static batching, continuous batching, and both caches on top."""

    name = "xllm-batching"
    system = "xLLM"
    statement = (
        "On one core, continuous batching gives at least 1.2 times the throughput of static batching, and encoder "
        "and prefix caches cut the mean time to first token to at most 0.8 of that, at equal output tokens "
        "(fovea-nano, a burst of questions, several about each picture)."
    )
    limits = (
        "xLLM's figures are for accelerators and for several instances; disaggregated stages, co-location of online "
        "and offline requests, its graphs and its memory pages are not part of this."
    )
    paper = Paper(title="xLLM Technical Report", arxiv="2510.14686", year=2025)
    arms = (
        Arm(
            name=STATIC,
            description="groups as large as the slots; a group begins when the last answer of the one before has "
            "ended; no caches",
        ),
        Arm(name=CONTINUOUS, description="a request begins as soon as a slot is free; no caches"),
        Arm(name=CACHED, description="continuous, with the encoder cache and the prefix cache"),
    )
    margin = (
        Margin(quantity="throughput, continuous / static", threshold=1.2),
        Margin(quantity="mean time to first token, cached / continuous", threshold=0.8, at_least=False),
    )
    # A first run of seeds 0 to 9 left the throughput undecided (1.24, interval 1.17 to 1.31). Forty fresh seeds, at the
    # same margin, were planned from its spread; adding to the ten until they pass would have been no test.
    seeds: ClassVar = {Tier.SMOKE: (0, 1, 2), Tier.CLAIM: tuple(range(100, 140))}
    sources = ("foveate.claims.xllm_batching",)

    def steps(self, tier: Tier) -> int:
        return LOADS[tier].requests

    @cached_property
    def _model(self) -> VisionLanguageModel:
        from foveate.models import load

        return load()

    def measure(self, arm: str, *, tier: Tier, seed: int, progress: Progress) -> list[Row]:
        load = LOADS[tier]
        with _one_thread():
            prompts = _prompts(self._model, load, seed)
            return [{"arm": arm, "seed": seed, **_burst(self._model, arm, load, prompts, seed, progress)}]

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Ratios paired by seed; their logarithms are averaged, with Student's interval."""
        by_seed: dict[int, dict[str, Row]] = defaultdict(dict)
        for row in rows:
            by_seed[row["seed"]][row["arm"]] = row
        runs = list(by_seed.values())
        intervals = (
            _ratio([(run[CONTINUOUS], run[STATIC]) for run in runs], "tokens_per_second"),
            _ratio([(run[CACHED], run[CONTINUOUS]) for run in runs], "mean_seconds_to_first_token"),
        )
        pairs = [(run[arm], run[STATIC]) for run in runs for arm in (CONTINUOUS, CACHED)]
        alike = [a == b for x, y in pairs for a, b in zip(x["answers"], y["answers"], strict=True)]
        note = f"{sum(alike)} of {len(alike)} answers are token for token those of the static arm"
        estimates = [
            Estimate(margin=margin, interval=interval)
            for margin, interval in zip(self.margin, intervals, strict=True)
        ]
        if any(x["output_tokens"] != y["output_tokens"] for x, y in pairs):
            return Verdict(
                outcome=Outcome.UNDECIDED,
                reason="the arms did not give equally many tokens, so their times cannot be compared",
                direction=False,
                estimates=tuple(estimates),
            )
        return judge(estimates, note=note)


def _ratio(pairs: Sequence[tuple[Row, Row]], column: str) -> Interval:
    logs = t_interval([math.log(first[column] / second[column]) for first, second in pairs])
    return Interval(
        value=math.exp(logs.value), low=math.exp(logs.low), high=math.exp(logs.high), method=logs.method
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processor time of several threads would count waiting as work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _prompts(model: VisionLanguageModel, load: Load, seed: int) -> list[Prompt]:
    """The requests in order: every picture with its first question, then every picture with its second."""
    from PIL import Image

    from foveate.world import make_example

    examples: list[Any] = []
    index = 10_000 * seed
    while len(examples) < load.pictures:
        example = make_example("shapes", "test", index, questions=load.questions, difficulty=2)
        index += 1
        if len(example.dialogues) >= load.questions:
            examples.append(example)
    pictures = [Image.fromarray(example.rendering.rgb) for example in examples]
    return [
        _prompt(model, picture, example.dialogues[question][0].text)
        for question in range(load.questions)
        for picture, example in zip(pictures, examples, strict=True)
    ]


def _prompt(model: VisionLanguageModel, picture: Any, text: str) -> Prompt:
    content = [{"type": "image"}, {"type": "text", "text": text}]
    return model.prepare([{"role": "user", "content": content}], images=[picture])


def _engine(model: VisionLanguageModel, arm: str, load: Load, visual_tokens: int) -> Engine:
    from foveate.engine import Engine, EngineConfig
    from foveate.engine.layout import feature_bytes

    # Without caches there is room for the running pictures and no others.
    room = (load.pictures + 1 if arm == CACHED else load.slots) * feature_bytes(model, visual_tokens)
    config = EngineConfig(
        max_sequences=load.slots,
        prefix_caching=arm == CACHED,
        encoder_cache_bytes=room,
        memory_bytes=room + 2**28,
    )
    return Engine(model, config, clock=time.process_time)


def _burst(
    model: VisionLanguageModel,
    arm: str,
    load: Load,
    prompts: Sequence[Prompt],
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """One burst served to its end. Prompts are prepared already: that work is the same in every arm."""
    from PIL import Image

    from foveate.engine import SamplingParameters

    engine = _engine(model, arm, load, prompts[0].media[0].grid.tokens)
    # The first steps of a process compile and allocate; a picture of its own warms up and helps no later request.
    warm = _prompt(model, Image.new("RGB", (168, 168)), "How many objects are there?")
    engine.generate(warm, SamplingParameters(max_tokens=4, ignore_end=True))
    before = engine.statistics()
    began = time.process_time()
    ids: list[str] = []
    tokens: dict[str, list[int]] = {}
    done = 0
    size = load.slots if arm == STATIC else load.requests
    requests = list(zip(prompts, load.lengths(seed), strict=True))
    for start in range(0, len(requests), size):
        for prompt, length in requests[start : start + size]:
            parameters = SamplingParameters(max_tokens=length, ignore_end=True)
            ids.append(engine.add_request(prompt, parameters))
            tokens[ids[-1]] = []
        while engine.has_work:
            for output in engine.step():
                tokens[output.request_id] += output.token_ids
                done += output.finished
            progress(done)
    seconds = time.process_time() - began
    return _account(engine, before, began, seconds, ids, tokens)


def _account(
    engine: Engine,
    before: Any,
    began: float,
    seconds: float,
    ids: Sequence[str],
    tokens: dict[str, list[int]],
) -> dict[str, Any]:
    """The row of a burst. Every request waits from the burst's begin, whenever the arm lets it in."""
    first = [engine.request_statistics(name).first_token - began for name in ids]  # type: ignore[union-attr, operator]
    after = engine.statistics()
    total = sum(len(answer) for answer in tokens.values())
    return {
        "requests": len(ids),
        "output_tokens": total,
        "seconds": seconds,
        "tokens_per_second": total / seconds,
        "mean_seconds_to_first_token": math.fsum(first) / len(first),
        "steps": after.steps - before.steps,
        "encoded_images": after.encoded_images - before.encoded_images,
        "prefix_hit_tokens": after.prefix_hit_tokens - before.prefix_hit_tokens,
        "answers": [hashlib.sha256(repr(tokens[name]).encode()).hexdigest()[:8] for name in ids],
    }
