"""One request under the guard on energy: its answers are read along, and ended where they go in circles.

Owns what is done with the guard's findings: the answer ends as at its limit of tokens, and the reply says why. A
request that asks for the end token to be ignored gets the length it asks for. The rules are in `foveate.serve.safety`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from foveate.engine import SamplingParameters, StepOutput
from foveate.serve.errors import ApiError
from foveate.serve.jobs import Job
from foveate.serve.safety.digests import Verdict
from foveate.serve.safety.energy import OutputWatch, WatchSettings
from foveate.serve.safety.guard import OutputGuard


class RequestWatch:
    """Reads the answers of one request.

    Args:
        owner: the caller's name; pictures are kept apart by it.
        digests: of the request's pictures.

    Attributes:
        notices: why answers ended before their time, for the reply.
        done: whether every answer has ended; what the engine still writes is not wanted.

    Raises:
        ApiError: 429, a picture that makes answers far longer than others do was sent too often.
    """

    def __init__(self, guard: OutputGuard, job: Job, *, owner: str, digests: Sequence[str]) -> None:
        self._guard, self._owner, self._digests = guard, owner, digests
        self._verdict = guard.pictures.assess(owner, digests) if digests else Verdict(action="allow")
        if self._verdict.action == "throttle":
            raise ApiError(
                "The request is put off",
                why=self._verdict.reason,
                fix="Try again after the time in Retry-After.",
                status=429,
                code="picture_throttled",
                retry_after=self._verdict.retry_after,
            )
        kind = "with pictures" if digests else "without pictures"
        self._watches = [guard.watch(kind) for _ in range(job.parameters.n)]
        self._ended: set[int] = set()
        self._fewest = job.parameters.min_tokens
        self._exact = job.parameters.ignore_end
        self.job = self._watched(job)
        self.notices: list[dict[str, object]] = []

    def _watched(self, job: Job) -> Job:
        """The job with what the verdict allows, and log-probabilities where they tell something and cost little.

        Drawing a token looks at the whole distribution anyway; a greedy step is several times as fast as one that
        reports its log-probability, so greedy answers are watched for circles and by their pictures alone.
        """
        parameters, most = job.parameters, self._verdict.max_tokens
        if most is not None:
            parameters = _at_most(parameters, most)
        draws = parameters.temperature > 0 and parameters.max_tokens > WatchSettings().long_tokens
        if draws and parameters.top_logprobs is None:
            parameters = replace(parameters, top_logprobs=0)
        return replace(job, parameters=parameters)

    @property
    def done(self) -> bool:
        """Whether every answer has ended."""
        return len(self._ended) == len(self._watches)

    def read(self, output: StepOutput) -> StepOutput | None:
        """The output as the reader gets it; None for what comes behind an end."""
        if output.index in self._ended:
            return None
        watch = self._watches[output.index]
        if not self._exact:
            self._observe(watch, output)
        found = watch.finding
        if output.finish_reason is None and found is not None and watch.tokens >= self._fewest:
            self.notices.append({"index": output.index, "reason": found.reason, "detail": found.detail})
            output = replace(output, finish_reason="length")
        if output.finish_reason is not None:
            self._ended.add(output.index)
            if output.finish_reason == "length" and watch.finding is None and self._capped(watch):
                reason = {"reason": "picture", "detail": self._verdict.reason}
                self.notices.append({"index": output.index, **reason})
            watch.finish()
        return replace(output, finished=True) if self.done else output

    def _observe(self, watch: OutputWatch, output: StepOutput) -> None:
        for at, token in enumerate(output.token_ids):
            known = at < len(output.logprobs)
            watch.observe(token, -output.logprobs[at].logprob if known else None)

    def _capped(self, watch: OutputWatch) -> bool:
        return self._verdict.max_tokens is not None and watch.tokens >= self._verdict.max_tokens

    def close(self) -> None:
        """The request has left: its pictures' account learns how long the answers were."""
        if self._digests and self._ended and not self._exact:
            longest = max(self._watches[index].tokens for index in self._ended)
            cut = any(self._capped(watch) for watch in self._watches)
            self._guard.pictures.record(self._owner, self._digests, longest, cut=cut)


def _at_most(parameters: SamplingParameters, tokens: int) -> SamplingParameters:
    most = min(parameters.max_tokens, tokens)
    return replace(parameters, max_tokens=most, min_tokens=min(parameters.min_tokens, most))
