"""VPBench: does a change of the marker reorder models by more than chance? Policies of visual tokens are the models.

Owns the policies, the questions and the margins. fovea-nano is one checkpoint, so a leaderboard is made of what keeps
its visual tokens: as different from each other as neighbours of a leaderboard are, and asked the very same items.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from foveate.claims.base import Arm, Claim, Estimate, Margin, Paper, Progress, Row, Tier, Verdict, judge
from foveate.evaluate.contract import Item, Parameters, Task
from foveate.evaluate.perturb.markers import DEFAULT_LOOK, LOOKS
from foveate.evaluate.perturb.rankings import ByChance, RankingInstability, ranking_instability
from foveate.evaluate.statistics import Interval

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

FULL = "full"
POLICIES: dict[str, tuple[str, str] | None] = {  # arm: method and budget
    FULL: None,
    "fastervlm-50": ("fastervlm", "50%"),
    "visionzip-25": ("visionzip", "25%"),
    "divprune-25": ("divprune", "25%"),
    "tome-50": ("tome", "50%"),
    "random-50": ("random", "50%"),
    "average-pool-25": ("average_pool", "25%"),
}
DEPTH, CORRESPONDENCE = "depth", "correspondence"
OTHER_TASKS = (DEPTH, CORRESPONDENCE)
# The smoke tier tries one change of a kind.
STYLES = {
    Tier.SMOKE: (DEFAULT_LOOK, "radius-1", "square", "label-left", "blue"),
    Tier.CLAIM: tuple(LOOKS),
}
ITEMS = {Tier.SMOKE: 5, Tier.CLAIM: 60}
OTHER_ITEMS = {Tier.SMOKE: 2, Tier.CLAIM: 25}
_APART = 1_000  # pictures between the first ones of two seeds
_LEVEL = 0.05


class MarkersReorder(Claim):
    """Right and wrong of seven policies under the default marker and its changes of one factor."""

    name = "vpbench-markers"
    system = "VPBench"
    statement = (
        "Which of seven visual-token policies is ahead depends on how markers look: against the default marker more "
        "orders of two policies turn around in its 16 changes of one factor than when every question's variants are "
        "exchanged among themselves, markers move policies against each other by more than that gives, and at least "
        "one change of order is separable by a paired test after Holm's correction (fovea-nano, Which marker is on the "
        "red star?, difficulty 2)."
    )
    limits = (
        "the paper ranks nine models on photographs; here they are policies of one small model, which was trained on "
        "the default marker only and on no other, so its answers move more than theirs. The paper's own two questions, "
        "relative depth and correspondence, are beyond its vocabulary: they are asked under the default marker to say "
        "so, and take no part in the ranking."
    )
    paper = Paper(
        title="Visually Prompted Benchmarks Are Surprisingly Fragile", arxiv="2512.17875", year=2025
    )
    arms = (
        Arm(name=FULL, description="all 144 tokens"),
        Arm(name="fastervlm-50", description="72 tokens, the highest in the CLS row"),
        Arm(
            name="visionzip-25",
            description="36 tokens: the most salient, and anchors that the others merge into",
        ),
        Arm(name="divprune-25", description="36 tokens that are least alike"),
        Arm(name="tome-50", description="72 tokens, the most similar merged"),
        Arm(
            name="random-50",
            description="72 tokens at random, others for another picture and so for another marker",
        ),
        Arm(name="average-pool-25", description="36 means of the cells of a smaller raster"),
        Arm(name=DEPTH, description="VPBench's relative depth on the world, all tokens, default marker only"),
        Arm(
            name=CORRESPONDENCE,
            description="VPBench's semantic correspondence on the world, all tokens, default marker only",
        ),
    )
    margin = (
        Margin(
            quantity="orders of two policies that turn around against the default marker, observed - exchanged",
            threshold=0.0,
            no_effect=0.0,
        ),
        Margin(
            quantity="points by which markers move policies against each other, observed - exchanged",
            threshold=0.0,
            no_effect=0.0,
        ),
        Margin(quantity="changes of order that paired tests separate", threshold=1.0, no_effect=0.0),
    )
    seeds: ClassVar = {Tier.SMOKE: (0,), Tier.CLAIM: (1, 2, 3)}
    sources = (
        "foveate.claims.vpbench_markers",
        "foveate.claims.perturbed",
        "foveate.evaluate.perturb.markers",
        "foveate.evaluate.perturb.rankings",
        "foveate.evaluate.tasks.vpbench_markers",
    )

    @cached_property
    def _model(self) -> VisionLanguageModel:
        from foveate.models import load

        return load()

    def steps(self, tier: Tier) -> int:
        return ITEMS[tier] * len(STYLES[tier])

    def measure(self, arm: str, *, tier: Tier, seed: int, progress: Progress) -> list[Row]:
        from foveate.evaluate.tasks.registry import get_task
        from foveate.evaluate.tasks.vpbench_markers import MarkedObjects

        if arm in OTHER_TASKS:
            task = get_task(f"vpbench-{arm}")
            count = OTHER_ITEMS[tier]
            items = [
                item
                for item in islice(task.items(), seed * count, (seed + 1) * count)
                if isinstance(item, Item)
            ]
            return [self._row(arm, seed, DEFAULT_LOOK, task, items, progress)]
        rows = []
        for number, style in enumerate(STYLES[tier]):
            marked = MarkedObjects(count=ITEMS[tier], offset=_APART * seed, marker_style=style)
            told = partial(_tell, progress, number * ITEMS[tier])
            rows.append(self._row(arm, seed, style, marked, list(marked.items()), told))
        return rows

    def _row(
        self, arm: str, seed: int, style: str, task: Task, items: Sequence[Item], progress: Progress
    ) -> Row:
        from foveate.claims.perturbed import ask_items

        method, budget = POLICIES.get(arm) or (None, None)
        parameters = Parameters(max_tokens=task.card.max_tokens, reducer=method, visual_budget=budget)
        replies = ask_items(self._model, items, parameters, progress=progress)
        scores = [task.score(item, reply) for item, reply in zip(items, replies, strict=True)]
        return {
            "arm": arm,
            "seed": seed,
            "style": style,
            "accuracy": sum(score.value for score in scores) / len(scores),
            "unparsed": sum(score.outcome == "unparsed" for score in scores) / len(scores),
            "questions": len(scores),
            "right": "".join(str(int(score.value)) for score in scores),
        }

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Items of all seeds together; each has a picture of its own."""
        found = ranking_instability(_scores(rows), baseline=DEFAULT_LOOK)
        separable = [change for change in found.changes if change.separable(_LEVEL)]
        counted = Interval(
            value=len(separable),
            low=len(separable),
            high=len(separable),
            method="paired tests, Holm over all policies and markers",
        )
        intervals = (_beyond(found.by_exchange), _beyond(found.by_interaction, scale=100), counted)
        estimates = [
            Estimate(margin=margin, interval=interval)
            for margin, interval in zip(self.margin, intervals, strict=True)
        ]
        return judge(estimates, note=_note(found, rows))


def _tell(progress: Progress, before: int, done: int) -> None:
    progress(before + done)


def _scores(rows: Sequence[Row]) -> dict[str, dict[str, np.ndarray]]:
    """By policy and marker style, seeds in order."""
    ordered = sorted((row for row in rows if row["arm"] in POLICIES), key=lambda row: row["seed"])
    styles = dict.fromkeys(row["style"] for row in ordered)
    return {
        arm: {
            style: np.array(
                [
                    int(one)
                    for row in ordered
                    if (row["arm"], row["style"]) == (arm, style)
                    for one in row["right"]
                ],
                dtype=np.float64,
            )
            for style in styles
        }
        for arm in POLICIES
    }


def _beyond(chance: ByChance, *, scale: float = 1.0) -> Interval:
    """Observed minus what exchange gives: its mean, and the middle 95 % of it as the interval."""
    return Interval(
        value=scale * (chance.observed - chance.mean),
        low=scale * (chance.observed - chance.high),
        high=scale * (chance.observed - chance.low),
        method="exchange of variants within items",
    )


def _note(found: RankingInstability, rows: Sequence[Row]) -> str:
    full = found.scores[FULL]
    worst = min(full, key=lambda style: full[style])
    unread = {
        arm: sum(row["unparsed"] * row["questions"] for row in rows if row["arm"] == arm)
        / sum(row["questions"] for row in rows if row["arm"] == arm)
        for arm in OTHER_TASKS
    }
    changed = [f"{c.behind} passes {c.ahead} at {c.variant}" for c in found.changes if c.separable(_LEVEL)]
    chance, pairs = found.by_exchange, len(POLICIES) * (len(POLICIES) - 1) // 2
    return "; ".join(
        [
            f"{chance.observed:g} orders turn around, {chance.mean:.3g} when exchanged (p = {chance.p_value:.2g}), "
            f"and {found.by_resampling:.2g} of {pairs} between two draws of the items",
            f"{len(found.swapped_pairs)} pairs of policies change places somewhere, tau between markers is "
            f"{found.mean_tau:.2g} in the mean and {found.worst_tau:.2g} at worst ({' and '.join(found.worst_pair)})",
            f"all tokens answer {full[DEFAULT_LOOK]:.3g} with the default marker and {full[worst]:.3g} with {worst}",
            f"separable: {', '.join(changed[:4]) or 'none'}{' and more' if len(changed) > 4 else ''}",
            *(f"of {arm}'s replies {share:.3g} cannot be read" for arm, share in unread.items()),
        ]
    )
