"""HiRED on LLaVA-NeXT's build: throughput of a burst of tiled pictures with a fifth of their tokens.

Owns the shape, the arms and the margins. The tower sees all five tiles in both arms: what is saved is the language
model's work on 2,343 of 2,928 tokens.
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

FULL, HIRED = "full", "hired-20"


# An overview and 2 x 2 tiles of 336 pixels.
LOADS = {
    Tier.SMOKE: Load(
        language=made_models.TINY,
        tower=made_models.TINY_TOWER,
        side=672,
        alone=2,
        burst=4,
        tokens=4,
        context=3008,
    ),
    Tier.CLAIM: Load(
        language=made_models.SMOLLM2_135M,
        tower=made_models.SMALL_TOWER,
        side=672,
        alone=3,
        burst=8,
        tokens=32,
        context=3008,
    ),
}


class HiredSpeed(Claim):
    """Eight tiled pictures at once, with all their tokens and with a fifth by HiRED."""

    name = "hired-speed"
    system = "HiRED"
    statement = (
        "At 20 % of the tokens of pictures of five tiles HiRED gives at least twice the throughput of all tokens, and "
        "a request takes at most 0.3 of the blocks of the key-value cache (LLaVA-NeXT's build with 2,928 visual "
        "tokens, a language model of SmolLM2-135M's shape, random weights, one core)."
    )
    limits = (
        "the paper's figures are for LLaVA-NeXT-7B on a P40; the tower here is small, as CLIP-L is beside 7 billion "
        "parameters, and answers are 32 tokens long."
    )
    paper = Paper(
        title="HiRED: Attention-Guided Token Dropping for Efficient Inference of High-Resolution "
        "Vision-Language Models",
        arxiv="2408.10945",
        year=2024,
    )
    arms = (
        Arm(name=FULL, description="all 2,928 tokens"),
        Arm(name=HIRED, description="585 tokens, shared among tiles and chosen in them by HiRED"),
    )
    margin = (
        Margin(quantity="throughput of 8 at once, HiRED at 20 % / all tokens", threshold=2.0),
        Margin(quantity="blocks of one request, HiRED at 20 % / all tokens", threshold=0.3, at_least=False),
    )
    seeds: ClassVar = {Tier.SMOKE: (0,), Tier.CLAIM: (1, 2, 3, 4, 5)}
    sources = ("foveate.claims.hired_speed", "foveate.claims.timing", "foveate.claims.made_models")

    @cached_property
    def _models(self) -> dict[Tier, VisionLanguageModel]:
        return {}

    def _model(self, tier: Tier) -> VisionLanguageModel:
        if tier not in self._models:
            self._models[tier] = made_models.llava_next(LOADS[tier].language, LOADS[tier].tower)
        return self._models[tier]

    def steps(self, tier: Tier) -> int:
        return LOADS[tier].burst

    def measure(self, arm: str, *, tier: Tier, seed: int, progress: Progress) -> list[Row]:
        from foveate.engine import VisualBudget

        visual = VisualBudget(budget="20%", reducer="hired") if arm == HIRED else None
        found = serve_load(self._model(tier), LOADS[tier], visual, seed=seed, progress=progress)
        return [{"arm": arm, "seed": seed, **found}]

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Ratios paired by seed."""
        intervals = [
            ratio_of_runs(rows, "tokens_per_second", HIRED, FULL),
            ratio_of_runs(rows, "blocks_alone", HIRED, FULL),
        ]
        return judge(
            [
                Estimate(margin=margin, interval=interval)
                for margin, interval in zip(self.margin, intervals, strict=True)
            ]
        )
