"""Methods inside the language model on fovea-nano: each against as many random tokens in the mean of the layers.

Owns the questions, the arms and the margins. Random tokens are chosen before the language model, so that every
layer reads as many; a method reads all tokens in its first layers and fewer than the mean in its last.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from foveate.claims.asking import (
    Dialogue,
    Replies,
    ask_all,
    ask_by_reference,
    dialogues,
    difference,
    row_of,
)
from foveate.claims.base import Arm, Claim, Estimate, Margin, Paper, Progress, Row, Tier, Verdict, judge

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

FAMILIES = ("existence", "attribute", "count")  # about shapes
READING = ("reading",)  # about pages
METHODS = ("fastv", "pyramiddrop", "sparsevlm", "dart", "mustdrop", "vscan_stage2")
FULL, RANDOM, BEFORE = "full", "random", "fastervlm"
BUDGET = "60%"  # VScan's second stage reads all tokens in three of six layers: half cannot be its mean
PICTURES = {Tier.SMOKE: 3, Tier.CLAIM: 25}


class LanguageMethods(Claim):
    """Accuracy at a mean of 86 of 144 tokens a layer, paired by question with 86 random ones."""

    name = "language-methods"
    system = "LLMC+"
    statement = (
        "Each of six methods inside the language model answers more questions than as many random tokens do, where "
        "86 of 144 tokens are read in the mean of the layers (fovea-nano, six layers, difficulty 2; existence, "
        "attribute, count and reading)."
    )
    limits = (
        "a language model of six layers, where a first cut behind layer 1 of 6 is proportionally late; cuts and counts "
        "follow the authors' shares of the depth, not their tables."
    )
    paper = Paper(
        title="LLMC+: Benchmarking Vision-Language Model Compression with a Plug-and-play Toolkit",
        arxiv="2508.09981",
        year=2025,
    )
    arms = (
        Arm(name=FULL, description="all 144 tokens in every layer"),
        Arm(name=RANDOM, description="86 tokens at random in every layer, others for every seed"),
        Arm(name=BEFORE, description="the 86 tokens that the CLS token attends to most, in every layer"),
        *(
            Arm(name=method, description=f"`{method}`, 86 tokens in the mean of the layers")
            for method in METHODS
        ),
    )
    margin = tuple(
        Margin(quantity=f"accuracy, {method} - random", threshold=0.0, no_effect=0.0) for method in METHODS
    )
    seeds: ClassVar = {Tier.SMOKE: (0,), Tier.CLAIM: (31, 32, 33)}
    sources = ("foveate.claims.language_methods", "foveate.claims.asking")

    @cached_property
    def _model(self) -> VisionLanguageModel:
        from foveate.models import load

        return load()

    def steps(self, tier: Tier) -> int:
        return PICTURES[tier] * (len(FAMILIES) + len(READING))

    def measure(self, arm: str, *, tier: Tier, seed: int, progress: Progress) -> list[Row]:
        pages, shapes = (
            dialogues(domain, families, pictures=PICTURES[tier], each=1, seed=seed)
            for domain, families in (("page", READING), ("shapes", FAMILIES))
        )
        asked = (*shapes, *pages)
        return [row_of(arm, seed, asked, self._ask(arm, asked, seed, progress))]

    def _ask(self, arm: str, asked: Sequence[Dialogue], seed: int, progress: Progress) -> Replies:
        from foveate.engine import VisualBudget
        from foveate.reduce import get_reducer

        if arm in METHODS:
            return ask_by_reference(self._model, asked, get_reducer(arm), BUDGET, progress)
        visual = None
        if arm == RANDOM:
            visual = VisualBudget(budget=BUDGET, reducer=get_reducer(RANDOM, seed=seed))
        elif arm == BEFORE:
            visual = VisualBudget(budget=BUDGET, reducer=BEFORE)
        return ask_all(self._model, asked, visual, progress=progress)

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Questions of all seeds together; pictures are what is resampled."""
        estimates = [
            Estimate(margin=margin, interval=difference(rows, method, RANDOM))
            for method, margin in zip(METHODS, self.margin, strict=True)
        ]
        return judge(estimates)
