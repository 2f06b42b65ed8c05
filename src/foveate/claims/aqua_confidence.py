"""AQuA's overconfidence on fovea-nano, and whether it grows when the model sees fewer tokens.

Owns the arms and the margins of two claims: the paper's own, and a measurement that it does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from foveate.claims.ambiguous_asking import (
    LEVELS,
    ask_ambiguous,
    confident_errors,
    difference,
    questions,
    row_of,
)
from foveate.claims.base import Arm, Claim, Estimate, Margin, Paper, Progress, Row, Tier, Verdict, judge

if TYPE_CHECKING:
    from foveate.engine import VisualBudget
    from foveate.models.base import VisionLanguageModel

FULL, BLIND = "full", "no-image"
METHODS, BUDGETS = ("fastervlm", "divprune"), (25, 10)  # percent
EACH = {Tier.SMOKE: 6, Tier.CLAIM: 75}  # questions of every level for each seed
_PAPER = Paper(
    title="AQuA: Toward Strategic Response Generation for Ambiguous Visual Questions",
    arxiv="2603.07394",
    year=2026,
)
_SOURCES = ("foveate.claims.aqua_confidence", "foveate.claims.ambiguous_asking", "foveate.evaluate.strategy")


def _pruned(method: str, budget: int) -> str:
    return f"{method}-{budget}"


class _AmbiguousQuestions(Claim):
    """What both claims ask; arms are named "full", "no-image", or by method and percent."""

    system = "AQuA"
    paper = _PAPER
    sources = (*_SOURCES, "foveate.evaluate.ambiguity")

    @cached_property
    def _model(self) -> VisionLanguageModel:
        from foveate.models import load

        return load()

    def steps(self, tier: Tier) -> int:
        return EACH[tier] * len(LEVELS)

    def measure(self, arm: str, *, tier: Tier, seed: int, progress: Progress) -> list[Row]:
        asked = questions(EACH[tier], seed)
        replies = ask_ambiguous(self._model, asked, _budget(arm), blind=arm == BLIND, progress=progress)
        return [row_of(arm, seed, asked, replies)]


def _budget(arm: str) -> VisualBudget | None:
    from foveate.engine import VisualBudget

    if arm in (FULL, BLIND):
        return None
    method, budget = arm.split("-")
    return VisualBudget(budget=f"{budget}%", reducer=method)


class Overconfidence(_AmbiguousQuestions):
    """Of the wrong strategies at levels 2 and 3, the share that is one confident answer."""

    name = "aqua-overconfidence"
    statement = (
        "Most errors on ambiguous questions are overconfident answers: where two or three objects could be meant, or "
        "at least five, more than half of the replies with a wrong strategy give a single answer (fovea-nano, world "
        "scenes, AQuA's salience rule)."
    )
    limits = (
        "fovea-nano was never taught to list or to ask back, so that its errors could only be single answers or "
        "unreadable ones; the authors show the same of large models that could do either."
    )
    arms = (
        Arm(name=FULL, description="all 144 tokens"),
        Arm(name=BLIND, description="the question alone"),
    )
    margin = tuple(
        Margin(quantity=f"single answers among the errors of level {level}", threshold=0.5, no_effect=0.5)
        for level in (2, 3)
    )
    seeds: ClassVar = {Tier.SMOKE: (0,), Tier.CLAIM: (1, 2, 3)}

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Questions of all seeds together; each has a picture of its own."""
        intervals = [confident_errors(rows, FULL, level) for level in (2, 3)]
        return judge(
            [
                Estimate(margin=m, interval=interval)
                for m, interval in zip(self.margin, intervals, strict=True)
            ]
        )


class PrunedConfidence(_AmbiguousQuestions):
    """The probability of a reply at levels 2 and 3 with fewer tokens, against that with all."""

    name = "aqua-pruning"
    statement = (
        "Token pruning does not make a model falsely certain: at 25 % and at 10 % of the tokens fovea-nano gives its "
        "replies to ambiguous questions (levels 2 and 3) a lower probability than at 100 %, by FasterVLM and by "
        "DivPrune."
    )
    limits = (
        "not a claim of the paper's but a question that it raises; the direction was seen in a pilot on other "
        "pictures. The probability is of the greedy reply, and falls for clear questions too (`sure_0`); part of the "
        "fall is replies that nobody can read."
    )
    arms = (
        Arm(name=FULL, description="all 144 tokens"),
        *(
            Arm(name=_pruned(method, budget), description=f"{budget} % of the tokens, kept by `{method}`")
            for budget in BUDGETS
            for method in METHODS
        ),
        Arm(name=BLIND, description="the question alone"),
    )
    margin = tuple(
        Margin(
            quantity=f"probability of the reply, {_pruned(method, budget)} - full",
            threshold=0.0,
            at_least=False,
            no_effect=0.0,
        )
        for budget in BUDGETS
        for method in METHODS
    )
    seeds: ClassVar = {Tier.SMOKE: (0,), Tier.CLAIM: (1, 2, 3)}

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Paired by question, all seeds together."""
        arms = [_pruned(method, budget) for budget in BUDGETS for method in METHODS]
        return judge(
            [
                Estimate(margin=margin, interval=difference(rows, arm, FULL))
                for margin, arm in zip(self.margin, arms, strict=True)
            ]
        )
