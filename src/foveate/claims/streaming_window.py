"""StreamingVLM's window over hours: memory, time a second and answers at the end against the beginning.

Owns the arms, the lengths and the margins. The toy and its training are `streaming_toy.py`'s.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from foveate.claims.base import Arm, Claim, Estimate, Margin, Paper, Progress, Row, Tier, Verdict, judge
from foveate.claims.streaming_toy import OPENING, Toy, ToyShape, trained, watch
from foveate.claims.timing import one_thread
from foveate.evaluate.statistics import Interval, t_interval

if TYPE_CHECKING:
    from foveate.decode.streaming.settings import StreamSettings

WINDOW, ABSOLUTE, NO_SINKS, FULL = "window", "absolute", "no-sinks", "full"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one tier runs.

    Attributes:
        hours: seconds of the windowed arm's stream; the failing arms' are shorter.
        failing: seconds of the arms that are to fail by their answers.
        full: seconds of the arm that forgets nothing, whose every second takes longer than the one before.
        openings: short streams, of as many seconds as a training chunk, for the accuracy at the beginning.
    """

    toy: ToyShape
    hours: int
    failing: int
    full: int
    openings: int

    def length(self, arm: str) -> int:
        """Seconds of its long stream."""
        return {WINDOW: self.hours, FULL: self.full}.get(arm, self.failing)


PLANS = {
    Tier.SMOKE: Plan(
        toy=ToyShape(width=64, inner=128, layers=2, seconds=14, earlier=16, steps=220),
        hours=240,
        failing=240,
        full=240,
        openings=4,
    ),
    Tier.CLAIM: Plan(
        toy=ToyShape(width=96, inner=256, layers=3, seconds=24, earlier=16, steps=500),
        hours=7200,
        failing=1800,
        full=600,
        openings=20,
    ),
}


class StreamingWindow(Claim):
    """Two hours of stream through sinks, a window of text and a window of vision at contiguous positions."""

    name = "streaming-window"
    system = "StreamingVLM"
    statement = (
        "Over 7,200 seconds of a generated stream (time-compressed; one frame a second, all counted), sinks with a "
        "text and a vision window at contiguous positions keep memory and time a second at the end within 1.05 of "
        "those after the first minute and late answers at 0.97 or more of early ones; absolute positions, no sinks "
        "and full attention fail (a toy of 0.34M parameters trained for this, on one core)."
    )
    limits = (
        "The model is a toy whose frames are four noisy vectors, trained on chunks of 24 seconds; nothing is said "
        "about real video, about commentary, or about fovea-nano, which was not trained on streams. The arms that "
        "fail run for 1,800 seconds, full attention for 600."
    )
    paper = Paper(
        title="StreamingVLM: Real-Time Understanding for Infinite Video Streams",
        arxiv="2510.09608",
        year=2025,
    )
    arms = (
        Arm(name=WINDOW, description="sinks, 16 tokens of text, 8 seconds of vision, contiguous positions"),
        Arm(name=ABSOLUTE, description="the same at the positions tokens came with"),
        Arm(name=NO_SINKS, description="the same without sinks: the key leaves with the text"),
        Arm(name=FULL, description="nothing leaves"),
    )
    margin = (
        Margin(
            quantity="memory, last minutes / after the first", threshold=1.05, at_least=False, no_effect=None
        ),
        Margin(
            quantity="time a second, last minutes / after the first",
            threshold=1.05,
            at_least=False,
            no_effect=None,
        ),
        Margin(quantity="accuracy, late / early", threshold=0.97, no_effect=None),
        Margin(quantity="accuracy at absolute positions, late / early", threshold=0.97, at_least=False),
        Margin(quantity="late accuracy, without sinks / with", threshold=0.5, at_least=False),
        Margin(quantity="time a second under full attention, last / after the first minute", threshold=1.5),
        Margin(quantity="accuracy under full attention, late / early", threshold=0.97, at_least=False),
    )
    seeds: ClassVar = {Tier.SMOKE: (0, 1), Tier.CLAIM: (0, 1, 2, 3, 4)}
    sources = ("foveate.claims.streaming_window", "foveate.claims.streaming_toy")

    def steps(self, tier: Tier) -> int:
        return PLANS[tier].hours

    @cached_property
    def _toys(self) -> dict[Tier, Toy]:
        return {}

    def measure(self, arm: str, *, tier: Tier, seed: int, progress: Progress) -> list[Row]:
        plan = PLANS[tier]
        with one_thread():
            if tier not in self._toys:
                self._toys[tier] = trained(plan.toy)
            return [{"arm": arm, "seed": seed, **_row(self._toys[tier], arm, plan, seed, progress)}]

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Ratios within a stream, or paired by seed; their logarithms are averaged."""
        by_seed: dict[int, dict[str, Row]] = defaultdict(dict)
        for row in rows:
            by_seed[row["seed"]][row["arm"]] = row
        runs = list(by_seed.values())

        def over(arm: str, above: str, below: str, other: str | None = None) -> Callable[[Any], float]:
            return lambda run: run[arm][above] / run[other or arm][below]

        ratios = (
            over(WINDOW, "late_bytes", "early_bytes"),
            over(WINDOW, "late_ms", "early_ms"),
            over(WINDOW, "late_accuracy", "early_accuracy"),
            over(ABSOLUTE, "late_accuracy", "early_accuracy"),
            over(NO_SINKS, "late_accuracy", "late_accuracy", WINDOW),
            over(FULL, "late_ms", "early_ms"),
            over(FULL, "late_accuracy", "early_accuracy"),
        )
        estimates = [
            Estimate(margin=margin, interval=_interval([ratio(run) for run in runs]))
            for margin, ratio in zip(self.margin, ratios, strict=True)
        ]
        rate = np.median([run[WINDOW]["frames_per_second"] for run in runs])
        return judge(estimates, note=f"the window took {rate:.0f} frames a second of processor time")


def _interval(ratios: Sequence[float]) -> Interval:
    # An arm that is never right has a ratio of 0; half an answer in a thousand is as good as none.
    logs = t_interval([math.log(max(ratio, 5e-4)) for ratio in ratios])
    return Interval(
        value=math.exp(logs.value),
        low=math.exp(logs.low),
        high=math.exp(min(logs.high, 700)),
        method=logs.method,
    )


def _settings(arm: str, length: int) -> StreamSettings:
    from foveate.decode.streaming.settings import StreamSettings

    common: dict[str, Any] = {
        "sink_tokens": OPENING,
        "reply_tokens": 1,
        "page_tokens": 4,
        "longest_seconds": length,
    }
    common |= {"question_tokens": 1, "answer_tokens": 1}
    if arm == FULL:
        return StreamSettings(vision_seconds=None, text_tokens=None, **common)
    if arm == NO_SINKS:
        common["sink_tokens"] = 0
    positions = "absolute" if arm == ABSOLUTE else "contiguous"
    return StreamSettings(vision_seconds=8, text_tokens=16, positions=positions, **common)


def _row(toy: Toy, arm: str, plan: Plan, seed: int, progress: Progress) -> dict[str, Any]:
    length, chunk = plan.length(arm), plan.toy.seconds
    settings = _settings(arm, length)
    # What comes first in a process is slow: some seconds of another stream warm up.
    watch(toy, _settings(arm, 30), length=30, seed=9_000 + seed)
    openings = [
        watch(toy, _settings(arm, chunk), length=chunk, seed=1_000 * (seed + 1) + number).right
        for number in range(plan.openings)
    ]
    seen = watch(toy, settings, length=length, seed=seed, progress=progress)
    minute, span = 60, min(300, (length - 60) // 2)
    early, late = slice(minute, minute + span), slice(length - span, length)
    return {
        "frames": length,
        "early_accuracy": float(np.mean(openings)),
        "late_accuracy": float(seen.right[late].mean()),
        "accuracy": float(seen.right.mean()),
        "early_ms": float(np.median(seen.seconds[early]) * 1000),
        "late_ms": float(np.median(seen.seconds[late]) * 1000),
        "early_bytes": int(seen.pages[early].max()) * seen.page_bytes,
        "late_bytes": int(seen.pages[late].max()) * seen.page_bytes,
        "most_tokens": int(seen.tokens.max()),
        "frames_per_second": length / float(seen.seconds.sum()),
    }
