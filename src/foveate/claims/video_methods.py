"""Methods over frames on moving scenes: each against random tokens of every frame, by the new that they keep.

Owns the methods and the margins.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from foveate.claims.base import Arm, Claim, Estimate, Margin, Paper, Progress, Row, Tier, Verdict, judge
from foveate.claims.clips import MOVING, clips, difference_by_clip, kept_of_new

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

METHODS = ("evs", "vidcom2", "dycoke", "fastvid", "prunevid", "holitom")
RANDOM, SPATIAL = "random", "fastervlm"
BUDGET = "50%"  # DyCoke keeps the first of every four frames whole
CLIPS = {Tier.SMOKE: 4, Tier.CLAIM: 60}


class VideoMethods(Claim):
    """The share of the objects' new tokens that each method keeps of eight frames."""

    name = "video-methods"
    system = "LLMC+"
    statement = (
        "Where a scene moves, each of six methods over frames keeps more of the objects' tokens that are new in their "
        "frame than as many random tokens of every frame, at 50 % of 8 frames (fovea-nano's tower, world scenes of "
        "difficulty 2)."
    )
    limits = (
        "answers: fovea-nano takes single pictures, so what is kept is counted against the world's masks and no "
        "question is asked. A token that is merged into another counts as dropped."
    )
    paper = Paper(
        title="LLMC+: Benchmarking Vision-Language Model Compression with a Plug-and-play Toolkit",
        arxiv="2508.09981",
        year=2025,
    )
    arms = (
        Arm(name=RANDOM, description="of every frame half at random"),
        Arm(name=SPATIAL, description="of every frame the half that its CLS token attends to most"),
        *(Arm(name=method, description=f"`{method}` over all frames") for method in METHODS),
    )
    margin = tuple(
        Margin(quantity=f"new object tokens kept, {method} - random", threshold=0.0, no_effect=0.0)
        for method in METHODS
    )
    seeds: ClassVar = {Tier.SMOKE: (0,), Tier.CLAIM: (11, 12, 13)}
    sources = ("foveate.claims.video_methods", "foveate.claims.clips")

    @cached_property
    def _model(self) -> VisionLanguageModel:
        from foveate.models import load

        return load()

    def steps(self, tier: Tier) -> int:
        return CLIPS[tier]

    def measure(self, arm: str, *, tier: Tier, seed: int, progress: Progress) -> list[Row]:
        from foveate.reduce import get_reducer

        reducer = get_reducer(arm, **({"seed": seed} if arm == RANDOM else {}))
        shares = []
        for done, clip in enumerate(clips(self._model, MOVING, CLIPS[tier], seed), start=1):
            shares.append(round(kept_of_new(clip, reducer, BUDGET), 6))
            progress(done)
        return [{"arm": arm, "seed": seed, "kept": sum(shares) / len(shares), "by_clip": shares}]

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Differences clip by clip, all seeds together."""
        return judge(
            [
                Estimate(margin=margin, interval=difference_by_clip(rows, "by_clip", method, RANDOM))
                for method, margin in zip(METHODS, self.margin, strict=True)
            ]
        )
