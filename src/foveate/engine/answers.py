"""The answers of every request that is here: how they begin, take a token, and end.

Owns the table of live requests, stop conditions, the split into n answers and the times of each request. Knows
no steps: the engine hands it rows of logits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from foveate.engine.admission import token_limit
from foveate.engine.layout import PromptLayout
from foveate.engine.plan import Encode, StepPlan
from foveate.engine.request import Request, SamplingParameters, StepOutput
from foveate.engine.sampling import TokenConstraint, TokenSampler, answer_seed
from foveate.engine.scheduler import Scheduler
from foveate.engine.sequence import Sequence as Answer
from foveate.engine.sequence import Status
from foveate.engine.statistics import EngineStatistics, RequestStatistics
from foveate.engine.text import TextStream
from foveate.models.generation import end_token_ids

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

REMEMBERED = 1024  # statistics of requests that ended are kept for this many


class _Live:
    """One request while it is here."""

    def __init__(
        self,
        request: Request,
        statistics: RequestStatistics,
        seed: int,
        constraint: Callable[[], TokenConstraint] | None,
    ) -> None:
        self.request, self.statistics, self.seed, self.constraint = request, statistics, seed, constraint
        self.answers: list[Answer] = []
        self.open = request.parameters.n


class Answers:
    """All live requests by id."""

    def __init__(
        self,
        model: VisionLanguageModel,
        scheduler: Scheduler,
        counters: EngineStatistics,
        tell: Callable[..., None],
        *,
        seed: int,
    ) -> None:
        self._model, self._scheduler, self._tell, self._seed = model, scheduler, tell, seed
        self._counters = counters
        self._ends = end_token_ids(model)
        self._live: dict[str, _Live] = {}
        self._ended: OrderedDict[str, RequestStatistics] = OrderedDict()

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._live

    def unused_id(self, number: int) -> str:
        """A name for a request whose caller gave none; a caller may have chosen one like it."""
        while f"request-{number}" in self._live:
            number += 1
        return f"request-{number}"

    def begin(
        self,
        request: Request,
        layout: PromptLayout,
        preprocess: tuple[float, float],
        constraint: Callable[[], TokenConstraint] | None,
    ) -> None:
        """Makes the first answer wait; the others split off when the prompt is complete. `preprocess`: seconds
        (waiting for a worker, working)."""
        reduction = layout.reduction
        statistics = RequestStatistics(
            request_id=request.id,
            prompt_tokens=layout.length,
            images=len(request.prompt.media),
            image_tokens=layout.visual_before[-1] if reduction is None else reduction.image_tokens,
            image_tokens_kept=layout.visual_before[-1],
            media_keys=layout.media_keys,
            arrival=request.arrival,
            preprocess_wait_seconds=preprocess[0],
            preprocess_seconds=preprocess[1],
        )
        asked = request.parameters.seed
        # Without a seed of its own a request draws by its number, so that a run can be repeated.
        seed = answer_seed(self._seed, request.order + 1) if asked is None else asked
        live = self._live[request.id] = _Live(request, statistics, seed, constraint)
        self._scheduler.add(self._answer(live, layout, 0, forks=request.parameters.n - 1))

    def _answer(self, live: _Live, layout: PromptLayout, index: int, forks: int = 0) -> Answer:
        parameters = live.request.parameters
        sampler = TokenSampler(
            parameters,
            live.request.prompt.token_ids,
            self.stops(parameters),
            seed=answer_seed(live.seed, index),
            constraint=None if live.constraint is None else live.constraint(),
        )
        text = TextStream(self._model.tokenizer, parameters.stop, include_stop=parameters.include_stop)
        answer = Answer(live.request, layout, index=index, sampler=sampler, text=text, forks=forks)
        live.answers.append(answer)
        return answer

    def stops(self, parameters: SamplingParameters) -> frozenset[int]:
        """The ids that end an answer to such a request."""
        ends = frozenset() if parameters.ignore_end else self._ends
        return ends | set(parameters.stop_token_ids)

    def tokens_left(self, answer: Answer) -> int:
        """How many more tokens the answer may get."""
        limit = token_limit(answer.request.parameters, answer.layout.length, self._model.context_length)
        return limit - len(answer.output)

    # -- tokens ------------------------------------------------------------------------------------------

    def accept(
        self, answer: Answer, logits: torch.Tensor, likeliest: int, clock: Callable[[], float]
    ) -> Iterator[StepOutput]:
        """Chooses from logits [V], whose argmax is `likeliest`, the answer's next token, and the first one of
        every answer that splits off here."""
        live = self._live[answer.request.id]
        group = [answer]
        while answer.forks:
            other = self._answer(live, answer.layout, len(live.answers))
            self._scheduler.fork(answer, other)
            group.append(other)
        for one in group:
            yield self._take(live, one, logits, likeliest, clock())

    def _take(
        self, live: _Live, answer: Answer, logits: torch.Tensor, likeliest: int, now: float
    ) -> StepOutput:
        parameters, statistics = live.request.parameters, live.statistics
        token, logprob = answer.sampler.choose(logits, likeliest)
        answer.output.append(token)
        statistics.generated_tokens += 1
        if statistics.first_token is None:
            statistics.first_token = now
            self._tell("first_token", live.request.id)
        text, reason = self._read(answer, token)
        finished = False
        if reason is not None:
            finished = self._close(live, answer, reason, now)
        return StepOutput(
            request_id=live.request.id,
            index=answer.index,
            token_ids=(token,),
            text=text,
            finish_reason=reason,
            logprobs=() if parameters.top_logprobs is None or logprob is None else (logprob,),
            finished=finished,
        )

    def _read(self, answer: Answer, token: int) -> tuple[str, str | None]:
        """(text the token completes, why the answer ends here or None)."""
        parameters = answer.request.parameters
        may_stop = len(answer.output) >= parameters.min_tokens
        if token in self.stops(parameters):
            return answer.text.flush(may_stop=may_stop)[0], "stop"
        text, stopped = answer.text.push(token, may_stop=may_stop)
        if stopped:
            return text, "stop"
        limit = token_limit(parameters, answer.layout.length, self._model.context_length)
        ended = answer.sampler.finish_reason
        if ended is None and len(answer.output) < limit:
            return text, None
        rest, stopped = answer.text.flush(may_stop=may_stop)
        if stopped:
            return text + rest, "stop"
        if ended is not None:
            return text + rest, ended
        return text + rest, "length" if limit == parameters.max_tokens else "context"

    # -- ends --------------------------------------------------------------------------------------------

    def _close(self, live: _Live, answer: Answer, reason: str, now: float) -> bool:
        """Ends one answer; True if it was the request's last."""
        answer.finish_reason = reason
        live.statistics.preemptions += answer.preemptions
        self._scheduler.finish(answer)
        live.open -= 1
        if live.open:
            return False
        early = reason in ("abort", "error")
        self._counters.aborted += early
        self._counters.finished += not early
        self._forget(live, "aborted" if early else "finished", now)
        return True

    def _forget(self, live: _Live, kind: str, now: float) -> None:
        live.statistics.ended = now
        del self._live[live.request.id]
        self._ended[live.request.id] = live.statistics
        while len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
        self._tell(kind, live.request.id, statistics=live.statistics)

    def abort(self, request_id: str, now: float, reason: str = "abort") -> list[StepOutput]:
        """Ends all answers of a request, those not yet begun included."""
        live = self._live[request_id]
        still = [answer for answer in live.answers if answer.status is not Status.FINISHED]
        live.open = len(still)
        outputs = []
        for answer in still:
            text, _ = answer.text.flush()
            outputs.append(
                StepOutput(
                    request_id=request_id,
                    index=answer.index,
                    token_ids=(),
                    text=text,
                    finish_reason=reason,
                    finished=self._close(live, answer, reason, now),
                )
            )
        return outputs

    def give_up(self, plan: StepPlan, guilty: str | None, now: float) -> list[StepOutput]:
        """After a step that raised: the last outputs of the request to blame, if one is.

        What was not computed never was. Where answers had been computed but no token chosen yet, they are
        computed anew: their logits are gone.
        """
        ended = [] if guilty is None else self.abort(guilty, now, reason="error")
        for work in plan.works:
            if work.sequence.status is not Status.RUNNING:
                continue
            if work.sequence.computed < work.stop:
                self._scheduler.revoke(work)
                continue
            self._scheduler.settle(work.sequence)
            if not work.sequence.pending:
                self._scheduler.requeue(work.sequence)
        return ended

    # -- times -------------------------------------------------------------------------------------------

    def statistics(self, request_id: str) -> RequestStatistics | None:
        """Of a live or remembered request."""
        live = self._live.get(request_id)
        return self._ended.get(request_id) if live is None else live.statistics

    def media_keys(self, request_id: str) -> tuple[str, ...]:
        """Names of a request's images in the caches; empty when it is not remembered."""
        statistics = self.statistics(request_id)
        return () if statistics is None else statistics.media_keys

    def note_plan(self, plan: StepPlan, now: float) -> None:
        """Admissions and preemptions of a step."""
        for answer in plan.admitted:
            statistics = self._live[answer.request.id].statistics
            if statistics.admitted is None:
                statistics.admitted = now
                statistics.cached_tokens = answer.cached_tokens or 0
            self._tell("admitted", answer.request.id, index=answer.index)
        for answer in plan.preempted:
            self._tell("preempted", answer.request.id, index=answer.index)

    def note_encoding(self, encodes: Sequence[Encode], seconds: float) -> None:
        """A step's encoder stage."""
        waited: dict[str, Any] = {}
        for encode in encodes:
            live = self._live.get(encode.sequence.request.id)
            if live is not None:
                live.statistics.encoded_images += 1
                waited[live.request.id] = live
        for live in waited.values():
            live.statistics.encode_seconds += seconds
