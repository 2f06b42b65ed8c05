"""How fast errors fall with visual tokens, by kind of question: the exponent beta of QueCC's law on fovea-nano.

Owns the budgets, the kinds and the margins. There is one model size, so the law's other exponent, of parameters,
cannot be fitted: error = scale * T^-beta, a straight line in logarithms, whose slope is all that is claimed about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from foveate.claims.asking import ask_all, dialogues, pooled, row_of
from foveate.claims.base import Arm, Claim, Estimate, Margin, Paper, Progress, Row, Tier, Verdict, judge
from foveate.evaluate.statistics import Interval
from foveate.evaluate.statistics.bootstrap import RESAMPLES, Numbers, gather, resampled_means

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

BUDGETS = {"tokens-7": 7, "tokens-14": 14, "tokens-28": 28, "tokens-57": 57, "tokens-100": 100, "full": 144}
OBJECTS, COUNT, READING = "objects", "count", "reading"
KINDS: Mapping[str, tuple[str, ...]] = {
    OBJECTS: ("existence", "attribute"),
    COUNT: ("count",),
    READING: ("reading",),
}
SHAPES = (*KINDS[OBJECTS], *KINDS[COUNT])
PICTURES = {Tier.SMOKE: 8, Tier.CLAIM: 80}


class TokenExponents(Claim):
    """The exponent of visual tokens for reading, counting, and existence and attributes."""

    name = "inference-optimal"
    system = "QueCC"
    statement = (
        "Errors in reading fall faster with visual tokens than errors about existence and attributes, and faster than "
        "errors in counting: the exponent of T is larger, in error = scale * T^-beta from 7 to 144 tokens (fovea-nano, "
        "FasterVLM, difficulty 2)."
    )
    limits = (
        "the exponent of the model's size, and so which of the two to spend on: there is one size of fovea-nano. The "
        "paper's tokens come from a compressor trained for each count, and its exponents (0.015, and 0.040 refitted "
        "for reading) are of other errors than those of tokens dropped without training."
    )
    paper = Paper(
        title="Inference Optimal VLMs Need Fewer Visual Tokens and More Parameters",
        arxiv="2411.03312",
        year=2024,
    )
    arms = tuple(
        Arm(name=name, description=f"{count} of 144 tokens" + ("" if name == "full" else " by FasterVLM"))
        for name, count in BUDGETS.items()
    )
    margin = (
        Margin(quantity="exponent of T, reading - existence and attributes", threshold=0.0, no_effect=0.0),
        Margin(quantity="exponent of T, reading - counting", threshold=0.0, no_effect=0.0),
    )
    seeds: ClassVar = {Tier.SMOKE: (0,), Tier.CLAIM: (31, 32, 33)}
    sources = ("foveate.claims.inference_optimal", "foveate.claims.asking")

    @cached_property
    def _model(self) -> VisionLanguageModel:
        from foveate.models import load

        return load()

    def steps(self, tier: Tier) -> int:
        return (len(SHAPES) + 1) * PICTURES[tier]

    def measure(self, arm: str, *, tier: Tier, seed: int, progress: Progress) -> list[Row]:
        from foveate.engine import VisualBudget

        count = PICTURES[tier]
        visual = None if arm == "full" else VisualBudget(budget=BUDGETS[arm], reducer="fastervlm")
        parts: dict[str, Any] = {}
        answered = 0
        for domain, families in (("shapes", SHAPES), ("page", KINDS[READING])):
            asked = dialogues(domain, families, pictures=count, each=1, seed=seed)
            replies = ask_all(self._model, asked, visual)
            parts[domain] = row_of(arm, seed, asked, replies)
            answered += len(asked)
            progress(answered)
        shown = [(family, parts["shapes"]) for family in SHAPES] + [(READING, parts["page"])]
        errors = {f"{family}_error": 1 - part[family] for family, part in shown}
        kept = parts["page"]["kept"]
        return [{"arm": arm, "seed": seed, "kept": kept, **errors, "parts": parts}]

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Slopes of all seeds' errors; pictures are resampled, the same ones at every budget."""
        drawn = {kind: _exponents(rows, kind) for kind in KINDS}
        intervals = [_difference(drawn[READING], drawn[kind]) for kind in (OBJECTS, COUNT)]
        note = "; ".join(
            f"beta of {kind} {values[0]:.3f} ({np.quantile(values[1:], 0.025):.3f} to "
            f"{np.quantile(values[1:], 0.975):.3f})"
            for kind, values in drawn.items()
        )
        return judge(
            [
                Estimate(margin=margin, interval=interval)
                for margin, interval in zip(self.margin, intervals, strict=True)
            ],
            note=note,
        )


def _exponents(rows: Sequence[Row], kind: str) -> Numbers:
    """[1 + resamples]: beta of all questions of a kind, then of pictures drawn again."""
    domain = "page" if kind == READING else "shapes"
    # Kinds that are asked about the same pictures share their draws; pages are other pictures.
    seed = 1 if kind == READING else 0
    parts = [row["parts"][domain] for row in rows]
    errors = []
    for arm in BUDGETS:
        found = pooled(parts, arm, KINDS[kind])
        wrong = gather([1 - right for right in found.right], found.pictures)
        shares = np.append(wrong.mean, resampled_means(wrong, resamples=RESAMPLES, seed=seed))
        # Half an error more in one question more: none wrong is not an error of nothing.
        questions = wrong.sizes.sum()
        errors.append((shares * questions + 0.5) / (questions + 1))
    return exponent(np.array(list(BUDGETS.values()), dtype=np.float64), np.stack(errors))


def exponent(tokens: Numbers, errors: Numbers) -> Numbers:
    """beta [R] of error = scale * T^-beta by least squares in logarithms, for T [n] and errors [n, R]."""
    away = np.log(tokens) - np.log(tokens).mean()
    slopes: Numbers = -(away @ np.log(errors)) / (away @ away)
    return slopes


def _difference(first: Numbers, second: Numbers) -> Interval:
    low, high = np.quantile(first[1:] - second[1:], (0.025, 0.975))
    value = float(first[0] - second[0])
    return Interval(value=value, low=float(low), high=float(high), method="percentile bootstrap of pictures")
