"""What one caller may use: requests a minute, requests at once, output tokens a minute and a day.

Owns buckets and the account of a caller. Knows no keys and no HTTP. All calls come from one thread, the server's event
loop; the clock is given, so that tests do not wait.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from foveate.errors import FoveateError
from foveate.serve.safety.limits import limit, require_range

Clock = Callable[[], float]  # seconds, ascending


class QuotaRefused(FoveateError):  # noqa: N818  (a refusal, like MediaRefused)
    """A caller has used up what it may use.

    Attributes:
        reason: requests_per_minute, concurrency, output_tokens_per_minute or output_tokens_per_day.
        retry_after: seconds until the same request would be let in; None if it never is.
    """

    def __init__(
        self, what: str, *, reason: str, retry_after: float | None, why: str = "", fix: str = ""
    ) -> None:
        super().__init__(what, why=why, fix=fix)
        self.reason, self.retry_after = reason, retry_after


@dataclass(frozen=True, kw_only=True)
class KeyLimits:
    """What a key may use. None lifts a limit.

    Output tokens are what a request costs most, and what attacks on energy drive up (arXiv 2401.11170). A request
    reserves as many as it may write, and what it did not write is given back. Each budget is a bucket that refills
    evenly and holds a minute's (or day's) worth, so a caller that was quiet may use that at once and the refill on top.

    Raises:
        SafetySettingsError: a limit that is no number of at least 1.
    """

    requests_per_minute: int | None = limit(600, "requests", "a minute; bursts up to as many")
    concurrency: int | None = limit(32, "requests", "in flight, queued ones included")
    output_tokens_per_minute: int | None = limit(
        100_000, "tokens", "written in a minute, all answers together"
    )
    output_tokens_per_day: int | None = limit(10_000_000, "tokens", "written in a day")

    def __post_init__(self) -> None:
        for name in (
            "requests_per_minute",
            "concurrency",
            "output_tokens_per_minute",
            "output_tokens_per_day",
        ):
            if getattr(self, name) is not None:
                require_range(self, name, least=1)


class Bucket:
    """Holds up to `capacity`, full at first, and refills evenly: `capacity` in `seconds` (a token bucket).

    In any span of t seconds at most capacity * (1 + t / seconds) is taken out, less what was given back.
    """

    def __init__(self, capacity: float, seconds: float, clock: Clock) -> None:
        self.capacity, self._rate, self._clock = capacity, capacity / seconds, clock
        self._level, self._then = float(capacity), clock()

    @property
    def level(self) -> float:
        """What it holds now."""
        now = self._clock()
        self._level = min(self.capacity, self._level + self._rate * max(0.0, now - self._then))
        self._then = now
        return self._level

    def wait(self, amount: float) -> float | None:
        """Seconds until it holds `amount`: 0.0 if it does, None if it never will."""
        if amount > self.capacity:
            return None
        return max(0.0, amount - self.level) / self._rate

    def take(self, amount: float) -> None:
        """Takes `amount` out; below zero if it holds less, which the refill has to make up."""
        self._level = self.level - amount

    def give(self, amount: float) -> None:
        """Puts back what was taken and not used."""
        self._level = min(self.capacity, self.level + amount)


class Admission:
    """One request that was let in; `async with` or `with` it, and `settle` what it wrote.

    A request that ends without `settle` (aborted, failed) has written `spent` tokens by what `count` was told.
    """

    def __init__(self, caller: Caller, reserved: int) -> None:
        self._caller, self.reserved, self.spent = caller, reserved, 0
        self._open = True

    def count(self, tokens: int = 1) -> None:
        """So many more output tokens were written."""
        self.spent += tokens

    def settle(self, tokens: int | None = None) -> None:
        """Ends the request and gives back what it reserved and did not write; again is harmless.

        Args:
            tokens: output tokens written in all; else what `count` was told.
        """
        if not self._open:
            return
        self._open = False
        if tokens is not None:
            self.spent = tokens
        self._caller.leave(self)

    def __enter__(self) -> Admission:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle()


class Caller:
    """Who sends requests, and what it has left.

    Attributes:
        name: for metrics and logs; never the key.
        refused: refusals by reason.
        requests, output_tokens: let in, and written by requests that have ended.
        running: requests in flight.
    """

    def __init__(self, name: str, limits: KeyLimits, *, clock: Clock = time.monotonic) -> None:
        self.name, self.limits = name, limits
        self.refused: Counter[str] = Counter()
        self.requests = self.output_tokens = self.running = 0
        self._buckets = {
            reason: Bucket(capacity, seconds, clock)
            for reason, seconds in (
                ("requests_per_minute", 60.0),
                ("output_tokens_per_minute", 60.0),
                ("output_tokens_per_day", 86_400.0),
            )
            if (capacity := getattr(limits, reason)) is not None
        }

    def admit(self, tokens: int) -> Admission:
        """Lets one request in that may write up to `tokens`, all of its answers together.

        Raises:
            QuotaRefused: a limit is reached; nothing was taken from any budget.
        """
        assert tokens >= 0
        if self.limits.concurrency is not None and self.running >= self.limits.concurrency:
            # How long the running ones take is not known here; a second is a polite guess.
            raise self._refusal("concurrency", f"{self.running} of its requests are in flight", 1.0)
        amounts = {reason: 1 if reason == "requests_per_minute" else tokens for reason in self._buckets}
        waits = {reason: bucket.wait(amounts[reason]) for reason, bucket in self._buckets.items()}
        for reason, wait in waits.items():
            if wait is None:
                raise self._refusal(reason, f"one request may write {tokens:,} tokens", None)
        if late := {reason: wait for reason, wait in waits.items() if wait}:
            reason = max(late, key=late.__getitem__)
            left = max(0, int(self._buckets[reason].level))
            raise self._refusal(reason, f"{amounts[reason]:,} are needed and {left:,} are left", late[reason])
        for reason, bucket in self._buckets.items():
            bucket.take(amounts[reason])
        self.running += 1
        self.requests += 1
        return Admission(self, tokens)

    def leave(self, admission: Admission) -> None:
        """The other end of `admit`; called by `Admission.settle`."""
        self.running -= 1
        self.output_tokens += admission.spent
        for reason in ("output_tokens_per_minute", "output_tokens_per_day"):
            if (bucket := self._buckets.get(reason)) is not None:
                unused = admission.reserved - admission.spent
                if unused >= 0:
                    bucket.give(unused)
                else:  # wrote more than it said it would; paid for all the same
                    bucket.take(-unused)

    def _refusal(self, reason: str, why: str, retry_after: float | None) -> QuotaRefused:
        self.refused[reason] += 1
        allowed = getattr(self.limits, reason)
        if retry_after is None:
            fix = f"Ask for at most {allowed:,} tokens (max_completion_tokens, times n)."
        elif reason == "concurrency":
            fix = "Wait for one of them to end."
        else:
            fix = f"Try again in {max(1, round(retry_after + 0.5))} s, or ask for a shorter answer."
        return QuotaRefused(
            f"The key {self.name!r} is at its limit of {allowed:,} {_WORDS[reason]}",
            reason=reason,
            retry_after=retry_after,
            why=why,
            fix=fix,
        )


_WORDS = {
    "requests_per_minute": "requests a minute",
    "concurrency": "requests at once",
    "output_tokens_per_minute": "output tokens a minute",
    "output_tokens_per_day": "output tokens a day",
}
