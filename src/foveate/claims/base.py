"""The contract of a claim, and the rule that turns intervals into a verdict.

Owns the records and the rule. Knows no models and no files: `running.py` measures, `results.py` keeps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from foveate.errors import FoveateError
from foveate.evaluate.statistics import Interval

Row = dict[str, Any]  # one measurement, ready for JSON; always holds "arm" and "seed"
Progress = Callable[[int], None]  # told how many of `Claim.steps` are done


class ClaimError(FoveateError):
    """A claim that does not exist, or cannot be run as asked."""


class Tier(StrEnum):
    """How much is run: `smoke` in under 3 minutes for the direction, `claim` in at most 45 on two cores."""

    SMOKE = "smoke"
    CLAIM = "claim"


class Outcome(StrEnum):
    """What the evidence says."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced at this scale"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Where a claim comes from. `arxiv` is None where there is no number or it was not checked."""

    title: str
    arxiv: str | None = None
    year: int | None = None


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One thing that is measured."""

    name: str
    description: str


@dataclass(frozen=True, kw_only=True)
class Margin:
    """What one number must reach, fixed before the run.

    Attributes:
        quantity: what the number is, with its unit: "throughput, continuous / static".
        threshold: what its whole interval must pass.
        at_least: whether to lie above the threshold; else below.
        no_effect: the value that would mean no difference: 1 of a ratio, 0 of a difference. None where a loss is
            tolerated up to the threshold: the claimed direction is then to lie on the right side of that.
    """

    quantity: str
    threshold: float
    at_least: bool = True
    no_effect: float | None = 1.0

    def text(self) -> str:
        """For people: "throughput, continuous / static: at least 1.2"."""
        return f"{self.quantity}: at {'least' if self.at_least else 'most'} {self.threshold:g}"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measured number beside its margin."""

    margin: Margin
    interval: Interval

    @property
    def passed(self) -> bool:
        """The whole interval lies on the claimed side of the threshold."""
        if self.margin.at_least:
            return self.interval.low >= self.margin.threshold
        return self.interval.high <= self.margin.threshold

    @property
    def failed(self) -> bool:
        """The whole interval lies on the other side."""
        if self.margin.at_least:
            return self.interval.high < self.margin.threshold
        return self.interval.low > self.margin.threshold

    @property
    def points_the_claimed_way(self) -> bool:
        """The value itself lies on the claimed side of no effect."""
        margin, value = self.margin, self.interval.value
        if margin.no_effect is None:
            return value >= margin.threshold if margin.at_least else value <= margin.threshold
        return value > margin.no_effect if margin.at_least else value < margin.no_effect

    def as_object(self) -> dict[str, Any]:
        """For JSON, which knows no infinity: an open end is null."""
        ends = [end if math.isfinite(end) else None for end in (self.interval.low, self.interval.high)]
        return {
            "quantity": self.margin.quantity,
            "value": self.interval.value,
            "interval": ends,
            "method": self.interval.method,
            "threshold": self.margin.threshold,
            "at_least": self.margin.at_least,
            "passed": self.passed,
        }


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came out.

    Attributes:
        direction: every number points the claimed way, whatever its interval: all that the smoke tier may say.
    """

    outcome: Outcome
    reason: str
    direction: bool
    estimates: tuple[Estimate, ...] = ()

    def as_object(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "outcome": str(self.outcome),
            "reason": self.reason,
            "direction": self.direction,
            "estimates": [estimate.as_object() for estimate in self.estimates],
        }


def judge(estimates: Sequence[Estimate], *, note: str = "") -> Verdict:
    """Reproduced when every interval passes its margin; not when one lies wholly on the wrong side; else undecided."""
    assert estimates, "a verdict needs a number"
    failed = [estimate for estimate in estimates if estimate.failed]
    open_ = [estimate for estimate in estimates if not estimate.passed and not estimate.failed]
    if failed:
        outcome, named = Outcome.NOT_REPRODUCED, failed
    elif open_:
        outcome, named = Outcome.UNDECIDED, open_
    else:
        outcome, named = Outcome.REPRODUCED, list(estimates)
    parts = [
        f"{e.margin.text()}, measured {e.interval.value:.3g} ({_end(e.interval.low)} to {_end(e.interval.high)})"
        for e in named
    ]
    return Verdict(
        outcome=outcome,
        reason="; ".join([*parts, note] if note else parts),
        direction=all(estimate.points_the_claimed_way for estimate in estimates),
        estimates=tuple(estimates),
    )


def _end(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "open"


def _shifted(progress: Progress, before: int) -> Progress:
    return lambda done: progress(before + done)


class Claim(ABC):
    """One published claim as an experiment.

    Attributes:
        name: what `foveate claims run` takes.
        system: the published system, a name of `systems.SYSTEMS`.
        statement: what is claimed here, in one sentence, with its scale.
        limits: what of the paper's claim this does not show.
        margin: fixed before the run; each margin gets one estimate in the verdict, in this order.
        seeds: runs of each tier.
        sources: modules whose code makes the numbers; a result made by other code of theirs is stale.
    """

    name: ClassVar[str]
    system: ClassVar[str]
    statement: ClassVar[str]
    limits: ClassVar[str]
    paper: ClassVar[Paper]
    arms: ClassVar[tuple[Arm, ...]]
    margin: ClassVar[tuple[Margin, ...]]
    seeds: ClassVar[Mapping[Tier, tuple[int, ...]]]
    sources: ClassVar[tuple[str, ...]]

    @abstractmethod
    def steps(self, tier: Tier) -> int:
        """Steps of progress of one arm and seed."""

    @abstractmethod
    def measure(self, arm: str, *, tier: Tier, seed: int, progress: Progress) -> list[Row]:
        """Rows of one arm and one seed: the piece that is kept when a run is stopped.

        Whatever the seed decides must be the same for every arm, so that arms can be paired by seed.
        """

    def run(self, tier: Tier, seed: int, progress: Progress = lambda done: None) -> list[Row]:
        """Rows of all arms for one seed; `progress` counts to `steps` times the number of arms."""
        rows = []
        for index, arm in enumerate(self.arms):
            told = _shifted(progress, index * self.steps(tier))
            rows += self.measure(arm.name, tier=tier, seed=seed, progress=told)
        return rows

    @abstractmethod
    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """What rows of all arms and seeds say, by the margin."""
