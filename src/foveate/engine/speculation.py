"""Drafts in the engine: who gets one in a step, how deep, and what the draft is shown of what came out.

Owns the way between scheduler and draft, and the count of what was tried and accepted. The rule by which a draft is
accepted is `decode.verify.match_sampled`, in the engine's own loop: each token is chosen by the request's sampler as
if there were no draft. Knows no kind of draft. Drafts take what a step has left after answers and prompts had
theirs, and never a block from anybody.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from foveate.decode.adaptive import MEMORY, RETRY, Acceptance, StepCost, best_depth
from foveate.decode.drafts.base import Draft, DraftRequest, Observation
from foveate.decode.settings import SpeculationSettings
from foveate.decode.tree import DraftTree
from foveate.engine.plan import Phase, StepPlan, Work
from foveate.engine.sequence import Sequence as Answer

if TYPE_CHECKING:
    from foveate.engine.scheduler import Scheduler
    from foveate.engine.statistics import EngineStatistics, RequestStatistics

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What a step computed. hidden [1, T, D] after the last norm, embeds [1, T, D], positions [1, T] or [3, 1, T],
    taps [1, T, D] by layer: all in the order of the plan."""

    hidden: torch.Tensor
    embeds: torch.Tensor
    positions: torch.Tensor
    taps: Mapping[int, torch.Tensor]


class Speculation:
    """One engine's drafts.

    Args:
        room: tokens of a step.
        rows: most logits of one answer in a step.
        left: tokens an answer may still get.
        statistics: of a request by id.

    Attributes:
        failure: why nothing is drafted any more: the draft raised. A guess that fails costs nobody an answer.
    """

    def __init__(
        self,
        draft: Draft,
        settings: SpeculationSettings,
        scheduler: Scheduler,
        *,
        room: int,
        rows: int,
        left: Callable[[Answer], int],
        statistics: Callable[[str], RequestStatistics | None],
        counters: EngineStatistics,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.draft = draft
        self.failure: str | None = None
        self._scheduler, self._counters, self._clock = scheduler, counters, clock
        self._room, self._left, self._statistics = room, left, statistics
        self._depth = settings.depth or draft.depth
        self._nodes = min(max(settings.nodes or draft.nodes, self._depth), rows - 1)
        self._adaptive = settings.adaptive
        self._cost = StepCost()
        self._nodes_per_depth = self._nodes / self._depth  # of late: a draft may stop early
        self._acceptance: dict[int, Acceptance] = {}
        self._usual = Acceptance()  # of all answers: what a new one begins with
        self._steps = 0  # that decoded
        self._accepted: dict[int, list[int]] = {}  # by answer, the nodes accepted in this step
        self._seen: set[int] = set()  # answers the draft knows of
        self._given: list[tuple[RequestStatistics, int]] = []  # who got how many tokens in this step
        self._unpaid: set[int] = set()  # answers without a draft in this step because it would not pay

    def describe(self) -> str:
        """A few words, and what became of it."""
        if self.failure is not None:
            return f"off: the draft failed ({self.failure})"
        depth = "as deep as pays" if self._adaptive else "always as deep as allowed"
        return f"{self.draft.describe()}, {depth}, at most {self._depth} deep and {self._nodes} tokens"

    # -- before the step ---------------------------------------------------------------------------------

    def extend(self, plan: StepPlan) -> StepPlan:
        """The plan with drafts behind the newest token of the answers for which they should pay."""
        self._accepted.clear()
        self._given.clear()
        self._unpaid.clear()
        room = self._room - plan.tokens
        decoding = [work for work in plan.works if work.phase is Phase.DECODE]
        if not decoding or room < 1 or self.failure is not None:
            return plan
        self._steps += 1
        began = self._clock()
        wanted = [work for work in decoding if _is_wanted(work.sequence)]
        requests = self._requests(wanted, room, others=len(decoding) - len(wanted))
        trees = self._propose([request for _, request in requests])
        self._note_drafts([request for _, request in requests], trees, self._clock() - began)
        extended: dict[int, Work] = {}
        for (work, request), tree in zip(requests, trees, strict=True):
            tree = tree.first(min(request.nodes, room), request.depth)
            tried = self._scheduler.try_draft(work, tree) if len(tree) else None
            if tried is not None:
                extended[work.sequence.key] = tried
                room -= len(tree)
        if not extended:
            return plan
        return replace(plan, works=tuple(extended.get(work.sequence.key, work) for work in plan.works))

    def _requests(self, works: Sequence[Work], room: int, *, others: int) -> list[tuple[Work, DraftRequest]]:
        """What is asked of the draft for these answers; `others` decode in the step and want none."""
        share = max(1, room // max(1, len(works)))
        requests = []
        for work in works:
            answer = work.sequence
            depth = self._depth_for(answer, share, len(works), others)
            if depth < 1:
                continue
            self._seen.add(answer.key)
            requests.append(
                (
                    work,
                    DraftRequest(
                        key=answer.key,
                        prompt=answer.request.prompt,
                        length=answer.length,
                        read=answer.tokens,
                        depth=depth,
                        nodes=min(share, math.ceil(self._nodes * depth / self._depth)),
                    ),
                )
            )
        return requests

    def _depth_for(self, answer: Answer, share: int, answers: int, others: int) -> int:
        most = min(self._depth, share, self._left(answer) - 1)  # the last token is the target's own
        if not self._adaptive:
            return most
        depth = best_depth(
            self._acceptance.setdefault(answer.key, Acceptance(self._usual.share)),
            self._cost,
            most=most,
            nodes_per_depth=self._nodes_per_depth,
            answers=answers,
            others=others,
        )
        if depth < 1 <= most:
            if self._steps % RETRY == 0:  # answers change; all at once, for they share the draft's calls
                return min(2, most)
            if self._cost.is_known:
                self._unpaid.add(answer.key)
        return depth

    def _note_drafts(
        self, requests: Sequence[DraftRequest], trees: Sequence[DraftTree], seconds: float
    ) -> None:
        self._cost.note_draft(max((tree.depth for tree in trees), default=0), seconds)
        asked, drafted = sum(request.depth for request in requests), sum(len(tree) for tree in trees)
        if drafted:
            self._nodes_per_depth = MEMORY * self._nodes_per_depth + (1 - MEMORY) * drafted / asked

    def _propose(self, requests: Sequence[DraftRequest]) -> list[DraftTree]:
        if not requests:
            return []
        try:
            return self.draft.propose(requests)
        except Exception as error:  # noqa: BLE001 - whatever it was, the answers do not need the draft
            self._fail(error)
            return [DraftTree()] * len(requests)

    def _fail(self, error: Exception) -> None:
        self.failure = f"{type(error).__name__}: {error}"
        _log.error("the draft failed, decoding goes on without one", exc_info=error)

    # -- after the step ----------------------------------------------------------------------------------

    def note(self, work: Work, accepted: Sequence[int]) -> None:
        """An answer got its tokens from a decoding step: the nodes of its draft that were right."""
        if not _is_wanted(work.sequence):
            return
        key, draft = work.sequence.key, work.draft
        statistics = self._statistics(work.sequence.request.id)
        assert statistics is not None, "it is here, or ended a moment ago"
        statistics.draft = self.draft.name
        self._given.append((statistics, 1 + len(accepted)))
        for one in (statistics, self._counters):
            one.decode_passes += 1
            one.plain_passes += draft is None
            one.unpaid_passes += key in self._unpaid
            one.draft_tokens += 0 if draft is None else len(draft)
            one.accepted_tokens += len(accepted)
        if draft is not None:
            self._accepted[key] = list(accepted)
            for guesses in (self._acceptance.setdefault(key, Acceptance()), self._usual):
                guesses.note(draft.depth, len(accepted))

    def finish_step(self, plan: StepPlan, drafting: float, seconds: float, result: StepResult) -> None:
        """The step is over, `seconds` of forward and sampling after those of drafting: the draft is shown what was
        decided, and forgets who is gone."""
        if plan.phase == "decode":
            self._cost.note(plan.tokens, seconds)
            if self._cost.is_known:
                for statistics, tokens in self._given:
                    statistics.pass_seconds += drafting + seconds
                    statistics.plain_seconds += tokens * self._cost(len(plan.works))
        if self.draft.observes and self.failure is None:
            try:
                self._show(plan, result)
            except Exception as error:  # noqa: BLE001 - as when proposing
                self._fail(error)
        here = {answer.key for answer in self._scheduler.running}
        for key in self._seen - here:
            self.draft.forget(key)
        self._seen &= here
        if len(self._acceptance) > 4 * (len(here) + 16):
            waiting = {answer.key for answer in self._scheduler.waiting}  # preempted: they come back
            for key in self._acceptance.keys() - here - waiting:
                del self._acceptance[key]

    def _show(self, plan: StepPlan, result: StepResult) -> None:
        observations, offset = [], 0
        for work in plan.works:
            if _is_wanted(work.sequence):
                observations.append(self._observation(work, offset, result))
            offset += work.tokens
        self.draft.observe(observations)
        self._seen.update(one.key for one in observations)
        firsts = {
            work.sequence.request.id: work.sequence.key for work in plan.works if work.sequence.index == 0
        }
        for answer in filter(_is_wanted, self._scheduler.running):  # those that split off in this step
            first = firsts.get(answer.request.id)
            if answer.key not in self._seen and first is not None and answer.computed == answer.layout.length:
                self.draft.clone(first, answer.key)
                self._seen.add(answer.key)

    def _observation(self, work: Work, offset: int, result: StepResult) -> Observation:
        count = work.stop - work.start
        rows = torch.arange(offset, offset + count)
        if accepted := self._accepted.get(work.sequence.key):
            rows = torch.cat([rows, offset + count + torch.tensor(accepted)])
        rows = rows.to(result.hidden.device)
        return Observation(
            key=work.sequence.key,
            prompt=work.sequence.request.prompt,
            start=work.start,
            tokens=work.sequence.tokens(work.start, work.start + rows.shape[0]),
            embeds=result.embeds[0].index_select(0, rows),
            positions=result.positions.flatten(0, -2).index_select(1, rows),
            hidden=result.hidden[0].index_select(0, rows),
            taps={layer: result.taps[layer][0].index_select(0, rows) for layer in self.draft.tap_layers},
        )


def _is_wanted(answer: Answer) -> bool:
    """Whether its request lets its tokens be guessed."""
    return answer.request.parameters.speculate
