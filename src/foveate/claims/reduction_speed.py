"""What fewer visual tokens save: time to the first token of one request, and throughput of many at once.

Owns the shapes, the arms and the margins. The warning behind the second margin: where a server drops tokens by work
per picture on the host, throughput of many requests has been seen to fall by half while one request got faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from foveate.claims import made_models
from foveate.claims.base import Arm, Claim, Estimate, Margin, Paper, Progress, Row, Tier, Verdict, judge
from foveate.claims.timing import Load, ratio_of_runs, serve_load

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

FULL, FASTER_10 = "full", "fastervlm-10"
METHODS = {  # arm: method and budget
    FASTER_10: ("fastervlm", "10%"),
    "fastervlm-50": ("fastervlm", "50%"),
    "divprune-50": ("divprune", "50%"),
}


LOADS = {
    Tier.SMOKE: Load(
        language=made_models.TINY,
        tower=made_models.TINY_TOWER,
        side=336,
        alone=3,
        burst=8,
        tokens=4,
        context=640,
    ),
    Tier.CLAIM: Load(
        language=made_models.SMOLLM2_360M,
        tower=made_models.SMALL_TOWER,
        side=336,
        alone=4,
        burst=32,
        tokens=16,
        context=640,
    ),
}


class ReductionSpeed(Claim):
    """One request alone, then 32 at once, with all of 576 visual tokens and with fewer."""

    name = "reduction-speed"
    system = "FasterVLM"
    statement = (
        "At 10 % of 576 visual tokens the first token comes at least 3 times sooner, and with 32 requests at once "
        "throughput is lower than with all tokens neither at 10 % nor at 50 %, nor with a method of hundreds of steps "
        "(LLaVA's build, a language model of SmolLM2-360M's shape, random weights, one core)."
    )
    limits = (
        "the time to the first token holds picture preparation, tower, choice and prefill, but the tower is small (4 "
        "layers, 384 wide: its share of all weights is CLIP-L's beside 7 billion); a tower as large as the language "
        "model costs the same with and without a reducer, and no reducer behind the tower reaches a factor of 3 there."
    )
    paper = Paper(
        title="[CLS] Attention is All You Need for Training-Free Visual Token Pruning: Make VLM Inference Faster",
        arxiv="2412.01818",
        year=2024,
    )
    arms = (
        Arm(name=FULL, description="all 576 tokens"),
        Arm(name=FASTER_10, description="57 tokens by the CLS row"),
        Arm(name="fastervlm-50", description="288 tokens by the CLS row"),
        Arm(name="divprune-50", description="288 tokens chosen one after the other, by DivPrune"),
    )
    margin = (
        Margin(quantity="time to first token, all tokens / FasterVLM at 10 %", threshold=3.0),
        Margin(quantity="throughput of 32 at once, FasterVLM at 10 % / all tokens", threshold=1.0),
        Margin(quantity="throughput of 32 at once, FasterVLM at 50 % / all tokens", threshold=1.0),
        Margin(quantity="throughput of 32 at once, DivPrune at 50 % / all tokens", threshold=1.0),
    )
    seeds: ClassVar = {Tier.SMOKE: (0,), Tier.CLAIM: (1, 2, 3, 4)}
    sources = ("foveate.claims.reduction_speed", "foveate.claims.timing", "foveate.claims.made_models")

    @cached_property
    def _models(self) -> dict[Tier, VisionLanguageModel]:
        return {}

    def _model(self, tier: Tier) -> VisionLanguageModel:
        if tier not in self._models:
            self._models[tier] = made_models.llava(LOADS[tier].language, LOADS[tier].tower)
        return self._models[tier]

    def steps(self, tier: Tier) -> int:
        return LOADS[tier].burst

    def measure(self, arm: str, *, tier: Tier, seed: int, progress: Progress) -> list[Row]:
        from foveate.engine import VisualBudget

        visual = None
        if arm in METHODS:
            method, budget = METHODS[arm]
            visual = VisualBudget(budget=budget, reducer=method)
        found = serve_load(self._model(tier), LOADS[tier], visual, seed=seed, progress=progress)
        return [{"arm": arm, "seed": seed, **found}]

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Ratios paired by seed."""
        intervals = [
            ratio_of_runs(rows, "first_token_seconds", FULL, FASTER_10),
            *(ratio_of_runs(rows, "tokens_per_second", arm, FULL) for arm in METHODS),
        ]
        return judge(
            [
                Estimate(margin=margin, interval=interval)
                for margin, interval in zip(self.margin, intervals, strict=True)
            ]
        )
