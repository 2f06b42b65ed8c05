"""Spatial and temporal redundancy on frames of the world: what a temporal and a spatial method keep of each.

Owns the methods and the margins. A moving scene shows the same objects again and again; pictures in a row that have
nothing to do with each other show none twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from foveate.claims.base import Arm, Claim, Estimate, Margin, Paper, Progress, Row, Tier, Verdict, judge
from foveate.claims.clips import MOVING, UNRELATED, clips, difference_by_clip, kept_of_new

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

EVS, FASTERVLM, RANDOM = "evs", "fastervlm", "random"
BUDGET = "25%"
CLIPS = {Tier.SMOKE: 4, Tier.CLAIM: 60}


class Redundancy(Claim):
    """The share of the objects' new tokens that each method keeps, of clips with and without repetition."""

    name = "llmc-redundancy"
    system = "LLMC+"
    statement = (
        "Spatial and temporal redundancy need different methods: at 25 % of the tokens of 8 frames a temporal method "
        "(EVS) keeps more of the objects' tokens that are new in their frame than a spatial one (FasterVLM, frame by "
        "frame) where a scene moves, and fewer where the frames are unrelated pictures (fovea-nano's tower, world "
        "scenes of difficulty 2)."
    )
    limits = (
        "answers: fovea-nano takes single pictures, so what is kept is counted against the world's masks and no "
        "question is asked; the authors compare on benchmarks of long natural video."
    )
    paper = Paper(
        title="LLMC+: Benchmarking Vision-Language Model Compression with a Plug-and-play Toolkit",
        arxiv="2508.09981",
        year=2025,
    )
    arms = (
        Arm(name=EVS, description="the first frame, and of the others the tokens that changed most"),
        Arm(name=FASTERVLM, description="of every frame the quarter that its CLS token attends to most"),
        Arm(name=RANDOM, description="of every frame a quarter at random"),
    )
    margin = (
        Margin(quantity="new object tokens kept, moving: EVS - FasterVLM", threshold=0.0, no_effect=0.0),
        Margin(quantity="new object tokens kept, unrelated: FasterVLM - EVS", threshold=0.0, no_effect=0.0),
    )
    seeds: ClassVar = {Tier.SMOKE: (0,), Tier.CLAIM: (1, 2, 3)}
    sources = ("foveate.claims.llmc_redundancy", "foveate.claims.clips")

    @cached_property
    def _model(self) -> VisionLanguageModel:
        from foveate.models import load

        return load()

    def steps(self, tier: Tier) -> int:
        return 2 * CLIPS[tier]

    def measure(self, arm: str, *, tier: Tier, seed: int, progress: Progress) -> list[Row]:
        from foveate.reduce import get_reducer

        reducer = get_reducer(arm, **({"seed": seed} if arm == RANDOM else {}))
        row: Row = {"arm": arm, "seed": seed}
        done = 0
        for kind in (MOVING, UNRELATED):
            shares = []
            for clip in clips(self._model, kind, CLIPS[tier], seed):
                shares.append(round(kept_of_new(clip, reducer, BUDGET), 6))
                done += 1
                progress(done)
            row |= {f"{kind}_kept": sum(shares) / len(shares), f"{kind}_by_clip": shares}
        return [row]

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Differences clip by clip, all seeds together."""
        intervals = (
            difference_by_clip(rows, f"{MOVING}_by_clip", EVS, FASTERVLM),
            difference_by_clip(rows, f"{UNRELATED}_by_clip", FASTERVLM, EVS),
        )
        return judge(
            [
                Estimate(margin=margin, interval=interval)
                for margin, interval in zip(self.margin, intervals, strict=True)
            ]
        )
