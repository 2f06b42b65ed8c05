"""What a picture does over many requests: one that makes answers far longer than others do is capped, then throttled.

Owns the account of each picture. An attack on energy costs far more to make than one reply is worth, so it only pays by
sending the same picture again (arXiv 2401.11170: minutes of optimisation for one picture); this takes the replay away.
Kept apart by caller: otherwise one caller could have another's picture capped by asking long questions about it.
"""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from foveate.serve.safety.limits import limit, require_range
from foveate.serve.safety.population import Population
from foveate.serve.safety.quotas import Bucket, Clock


@dataclass(frozen=True, kw_only=True)
class DigestSettings:
    """When a picture counts as an outlier, and what becomes of requests with it.

    Raises:
        SafetySettingsError: a number out of range.
    """

    enabled: bool = limit(True, "", "off: every picture is let through")
    min_population: int = limit(100, "answers", "to compare with; before that nothing is an outlier")
    min_observations: int = limit(3, "answers", "with the picture: one long answer says nothing")
    outlier_spreads: float = limit(3.0, "", "of the logarithm of lengths above the median is an outlier")
    min_tokens: int = limit(128, "tokens", "a picture whose median answer is shorter is never one")
    cap_spreads: float = limit(
        2.0, "", "above the median, but at least `min_tokens`, is what an outlier may still write"
    )
    per_minute: int = limit(
        6, "requests", "a minute with an outlier, by one caller; more are refused for a while"
    )
    max_pictures: int = limit(10_000, "pictures", "are remembered, the latest used")

    def __post_init__(self) -> None:
        for name in ("min_population", "min_observations", "min_tokens", "per_minute", "max_pictures"):
            require_range(self, name, least=1)
        require_range(self, "outlier_spreads")
        require_range(self, "cap_spreads")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What to do with a request.

    Attributes:
        action: "allow"; "cap": write at most `max_tokens`; "throttle": refuse until `retry_after` seconds have gone.
        reason: a sentence for the reply; empty when allowed.
    """

    action: Literal["allow", "cap", "throttle"]
    max_tokens: int | None = None
    retry_after: float | None = None
    reason: str = ""


@dataclass(kw_only=True)
class _Picture:
    """Logarithms of the last answers' lengths, how many there were in all, and the throttle once it is an outlier."""

    lengths: deque[float] = field(default_factory=lambda: deque(maxlen=8))
    answers: int = 0
    bucket: Bucket | None = None


ALLOW = Verdict(action="allow")
_COUNTED = 3  # answers of one picture that count in the population: replaying one must not make it ordinary
_DEFAULT_SETTINGS = DigestSettings()


class DigestStatistics:
    """Output lengths by picture, against those of all pictures.

    Attributes:
        verdicts: how many requests were allowed, capped and throttled.
    """

    def __init__(
        self, settings: DigestSettings = _DEFAULT_SETTINGS, *, clock: Clock = time.monotonic
    ) -> None:
        self._settings, self._clock = settings, clock
        self._pictures: OrderedDict[tuple[str, str], _Picture] = OrderedDict()
        # Lengths are compared by ratio, so as logarithms; where all are alike, a quarter longer is one spread.
        self._population = Population(least_spread=0.25)
        self.verdicts: Counter[str] = Counter()

    def assess(self, caller: str, digests: Sequence[str]) -> Verdict:
        """What to do with a request that carries these pictures, before it is run."""
        verdict = self._assess(caller, digests) if self._settings.enabled else ALLOW
        self.verdicts[verdict.action] += 1
        return verdict

    def record(self, caller: str, digests: Sequence[str], tokens: int, *, cut: bool = False) -> None:
        """A request with these pictures has ended after so many output tokens.

        Args:
            cut: it ended at a verdict's `max_tokens`. Its length then says nothing and is not learnt, or a cap would
                lift itself; a capped answer that ends before is learnt, so that a picture can become ordinary again.
        """
        if not self._settings.enabled or cut:
            return
        length = math.log1p(tokens)
        for digest in dict.fromkeys(digests):
            picture = self._pictures.setdefault((caller, digest), _Picture())
            self._pictures.move_to_end((caller, digest))
            picture.lengths.append(length)
            picture.answers += 1
            if picture.answers <= _COUNTED:
                self._population.add(length)
        while len(self._pictures) > self._settings.max_pictures:
            self._pictures.popitem(last=False)

    def is_outlier(self, caller: str, digest: str) -> bool:
        """Whether answers to this picture are far longer than those to others."""
        settings, picture = self._settings, self._pictures.get((caller, digest))
        if picture is None or len(picture.lengths) < settings.min_observations:
            return False
        if len(self._population) < settings.min_population:
            return False
        middle = float(np.median(picture.lengths))
        return (
            middle >= math.log1p(settings.min_tokens)
            and self._population.score(middle) >= settings.outlier_spreads
        )

    def _assess(self, caller: str, digests: Sequence[str]) -> Verdict:
        found = [digest for digest in dict.fromkeys(digests) if self.is_outlier(caller, digest)]
        if not found:
            return ALLOW
        waits = [self._wait(caller, digest) for digest in found]
        if retry_after := max(waits):
            return Verdict(
                action="throttle",
                retry_after=retry_after,
                reason=f"a picture of it makes answers far longer than others do, and may be sent "
                f"{self._settings.per_minute} times a minute",
            )
        for digest in found:
            bucket = self._pictures[caller, digest].bucket
            assert bucket is not None, "made by _wait"
            bucket.take(1)
        # Not a quantile: one caller's few long answers would lift the highest of those at once.
        usual = math.expm1(self._population.centre + self._settings.cap_spreads * self._population.spread)
        cap = max(self._settings.min_tokens, math.ceil(usual))
        return Verdict(
            action="cap",
            max_tokens=cap,
            reason=f"a picture of it makes answers far longer than others do; this one ends after {cap} tokens",
        )

    def _wait(self, caller: str, digest: str) -> float:
        picture = self._pictures[caller, digest]
        if picture.bucket is None:
            picture.bucket = Bucket(self._settings.per_minute, 60.0, self._clock)
        wait = picture.bucket.wait(1)
        assert wait is not None, "a bucket holds at least one"
        return wait
