"""Watching an answer while it is written, against input made to keep a model talking.

Owns two signs of it: output that goes round in circles, and output that is far longer than others and as unpredictable
as noise. Verbose Images (Gao et al., ICLR 2024, arXiv 2401.11170) drives a model to the second: it delays the end
token, flattens the distribution and spreads the hidden states, for 7 to 8 times the tokens. Decides; the server ends
the answer with finish_reason "length" and tells the reason. What one picture does over many requests is for digests.py.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass

from foveate.serve.safety.limits import limit, require_range
from foveate.serve.safety.population import Population
from foveate.serve.safety.repetition import PeriodDetector


@dataclass(frozen=True, kw_only=True)
class WatchSettings:
    """When an answer is ended although its request allows more.

    Raises:
        SafetySettingsError: a number out of range.
    """

    enabled: bool = limit(True, "", "off: nothing is ended")
    max_period: int = limit(256, "tokens", "longest piece whose repetition is noticed")
    min_repeats: int = limit(4, "times", "in a row, exactly, before the answer is ended")
    min_tokens: int = limit(
        128, "tokens", "of repetition in all: short rows of dashes, zeros or blanks are ordinary"
    )
    long_tokens: int = limit(
        512, "tokens", "an answer no longer than this is never ended for being unpredictable"
    )
    long_spreads: float = limit(
        2.5,
        "",
        "an answer less than this above the median of (logarithms of) lengths is not ended for it either",
    )
    window: int = limit(256, "tokens", "over which unpredictability is averaged")
    surprisal: float = limit(
        3.0, "nats a token", "more is unpredictable, while too few answers are known to compare"
    )
    outlier_spreads: float = limit(
        4.0, "", "above the median of recent answers is unpredictable, when enough are known"
    )
    least_surprisal: float = limit(1.0, "nats a token", "or less is never unpredictable")
    min_population: int = limit(100, "answers", "are enough to compare with")

    def __post_init__(self) -> None:
        for name in ("max_period", "long_tokens", "window", "min_population"):
            require_range(self, name, least=1)
        for name in ("min_repeats", "min_tokens"):
            require_range(self, name, least=2)
        for name in ("long_spreads", "surprisal", "outlier_spreads", "least_surprisal"):
            require_range(self, name)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Why an answer should end.

    Attributes:
        reason: "periodic" or "unpredictable".
        detail: a sentence for the reply.
        tokens: how many had been written.
    """

    reason: str
    detail: str
    tokens: int


class OutputHistory:
    """What finished answers of one kind were like, which later ones are compared with; and counts for metrics.

    Keep one for each kind of request that differs in length by nature (a route, with and without pictures).

    Attributes:
        lengths: logarithms of lengths, since they are compared by ratio.
        surprisals: averages of whole answers.
        findings: answers ended early, by reason.
        answers: all that were watched.
    """

    def __init__(self) -> None:
        self.lengths = Population(least_spread=0.25)
        self.surprisals = Population(least_spread=0.1)
        self.findings: Counter[str] = Counter()
        self.answers = 0


_DEFAULT_SETTINGS = WatchSettings()


class OutputWatch:
    """Reads one answer along; make one for each.

    Args:
        history: of answers of the same kind. Without one, absolute limits hold.
    """

    def __init__(
        self, settings: WatchSettings = _DEFAULT_SETTINGS, history: OutputHistory | None = None
    ) -> None:
        self._settings, self._history = settings, history
        self._detector = PeriodDetector(
            max_period=settings.max_period, min_repeats=settings.min_repeats, min_tokens=settings.min_tokens
        )
        self._window: deque[float] = deque(maxlen=settings.window)
        self._window_sum = self._sum = 0.0
        self._rated = 0
        self.tokens = 0
        self.finding: Finding | None = None

    def observe(self, token: int, surprisal: float | None = None) -> Finding | None:
        """Takes the next token; why the answer should end now, or None. After a finding, the same one again.

        Args:
            surprisal: minus the log-probability (natural) of the token, or the entropy of its distribution; under
                sampling at temperature 1 the first is the second on average. None: unpredictability is not watched.
        """
        if not self._settings.enabled or self.finding is not None:
            return self.finding
        self.tokens += 1
        if surprisal is not None and math.isfinite(surprisal):
            self._rate(surprisal)
        period = self._detector.feed(token)
        if period is not None:
            detail = f"the answer repeats the same {period} token{'s' if period > 1 else ''} over and over"
            self.finding = Finding(reason="periodic", detail=detail, tokens=self.tokens)
        elif self._unpredictable():
            detail = f"after {self.tokens} tokens the answer is as unpredictable as noise"
            self.finding = Finding(reason="unpredictable", detail=detail, tokens=self.tokens)
        return self.finding

    def finish(self) -> None:
        """The answer has ended: the history learns from it, but not from one that was ended here."""
        if self._history is None or not self._settings.enabled:
            return
        self._history.answers += 1
        if self.finding is not None:
            self._history.findings[self.finding.reason] += 1
            return
        self._history.lengths.add(math.log1p(self.tokens))
        if self._rated:
            self._history.surprisals.add(self._sum / self._rated)

    def _rate(self, surprisal: float) -> None:
        if len(self._window) == self._window.maxlen:
            self._window_sum -= self._window[0]
        self._window.append(surprisal)
        self._window_sum += surprisal
        self._sum += surprisal
        self._rated += 1

    def _unpredictable(self) -> bool:
        settings, history = self._settings, self._history
        if self.tokens <= settings.long_tokens or len(self._window) < settings.window:
            return False
        allowed = settings.surprisal
        if history is not None and len(history.surprisals) >= settings.min_population:
            if history.lengths.score(math.log1p(self.tokens)) <= settings.long_spreads:
                return False
            known = history.surprisals
            allowed = max(settings.least_surprisal, known.centre + settings.outlier_spreads * known.spread)
        return self._window_sum / settings.window > allowed
