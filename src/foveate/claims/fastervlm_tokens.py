"""FasterVLM on fovea-nano: what a tenth of the visual tokens still answers, chosen by the CLS row or at random.

Owns the questions, the arms and the margins. fovea-nano's tower is a CLIP with a CLS token, so the score is the
paper's own, the CLS row of the layer that the model reads, and not the column mean that stands in for it elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from foveate.claims.asking import ask_all, ask_by_reference, dialogues, difference, ratio, row_of
from foveate.claims.base import Arm, Claim, Estimate, Margin, Paper, Progress, Row, Tier, Verdict, judge

if TYPE_CHECKING:
    from foveate.engine import VisualBudget
    from foveate.models.base import VisionLanguageModel

FAMILIES = ("existence", "attribute")
FULL, NO_IMAGE = "full", "no-image"
FASTER_10, FASTER_5 = "fastervlm-10", "fastervlm-5"
FASTV_10, FASTER_KEPT = "fastv-10", "fastervlm-10-in-place"
RANDOM_10, RANDOM_5 = "random-10", "random-5"
POOL_10, DOWNSAMPLE_10 = "average-pool-10", "downsample-10"
METHODS = {  # arm: method and budget
    FASTER_10: ("fastervlm", "10%"),
    FASTER_5: ("fastervlm", "5%"),
    FASTER_KEPT: ("fastervlm", "10%"),
    RANDOM_10: ("random", "10%"),
    RANDOM_5: ("random", "5%"),
    POOL_10: ("average_pool", "10%"),
    DOWNSAMPLE_10: ("downsample", "10%"),
}
PICTURES = {Tier.SMOKE: 25, Tier.CLAIM: 150}
EACH = 2  # questions of a family about a picture, at most


class TokensByTheClsRow(Claim):
    """Accuracy at 14 and at 7 of 144 tokens, paired by question with all tokens and with random ones."""

    name = "fastervlm-tokens"
    system = "FasterVLM"
    statement = (
        "On questions about existence and attributes FasterVLM keeps at least 90 % of the accuracy of all tokens at "
        "10 % of them, answers more at 10 % and at 5 % than as many random tokens do, and more at 10 % than FastV "
        "(fovea-nano, difficulty 2; 10 % are 14 of 144 tokens and 5 % are 7)."
    )
    limits = (
        "the paper's figures are for benchmarks of natural pictures on LLaVA-1.5 and NeXT, where 5 % are 28 tokens "
        "of 576. FastV is counted by what is left behind its cut: with 14 tokens in the mean of 6 layers it cannot be "
        "run, as its first layer reads all 144."
    )
    paper = Paper(
        title="[CLS] Attention is All You Need for Training-Free Visual Token Pruning: Make VLM Inference Faster",
        arxiv="2412.01818",
        year=2024,
    )
    arms = (
        Arm(name=FULL, description="all 144 tokens"),
        Arm(name=FASTER_10, description="the 14 tokens that the CLS token attends to most"),
        Arm(name=FASTER_5, description="the 7 tokens that the CLS token attends to most"),
        Arm(
            name=FASTER_KEPT,
            description="the same 14 at the positions where they stood: the authors' code, and so every other arm, "
            "closes the gaps",
        ),
        Arm(
            name=FASTV_10,
            description="all tokens in the first of 6 layers, then the 14 that the question's end attends to most",
        ),
        Arm(name=RANDOM_10, description="14 tokens at random, others for every seed"),
        Arm(name=RANDOM_5, description="7 tokens at random, others for every seed"),
        Arm(name=POOL_10, description="means of the cells of a raster of at most 14"),
        Arm(name=DOWNSAMPLE_10, description="a smaller picture into the tower, of at most 14 tokens"),
        Arm(name=NO_IMAGE, description="the question alone"),
    )
    margin = (
        Margin(quantity="accuracy, FasterVLM at 10 % / all tokens", threshold=0.9, no_effect=None),
        Margin(quantity="accuracy, FasterVLM - random at 10 %", threshold=0.0, no_effect=0.0),
        Margin(quantity="accuracy, FasterVLM - random at 5 %", threshold=0.0, no_effect=0.0),
        Margin(quantity="accuracy, FasterVLM - FastV at 10 %", threshold=0.0, no_effect=0.0),
    )
    # FastV's arm was added, and all arms run again on the same questions, when FastV was built; the other margins had
    # been decided by then and are as they were.
    seeds: ClassVar = {Tier.SMOKE: (0,), Tier.CLAIM: (1, 2, 3, 4)}
    sources = ("foveate.claims.fastervlm_tokens", "foveate.claims.asking")

    @cached_property
    def _model(self) -> VisionLanguageModel:
        from foveate.models import load

        return load()

    def steps(self, tier: Tier) -> int:
        return PICTURES[tier] * EACH * len(FAMILIES)

    def measure(self, arm: str, *, tier: Tier, seed: int, progress: Progress) -> list[Row]:
        from foveate.reduce import get_reducer

        asked = dialogues("shapes", FAMILIES, pictures=PICTURES[tier], each=EACH, seed=seed)
        if arm == FASTV_10:
            replies = ask_by_reference(
                self._model, asked, get_reducer("fastv", counting="final"), "10%", progress
            )
        else:
            visual = _visual(arm, seed)
            replies = ask_all(self._model, asked, visual, blind=arm == NO_IMAGE, progress=progress)
        return [row_of(arm, seed, asked, replies)]

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Questions of all seeds together; pictures are what is resampled."""
        intervals = (
            ratio(rows, FASTER_10, FULL),
            difference(rows, FASTER_10, RANDOM_10),
            difference(rows, FASTER_5, RANDOM_5),
            difference(rows, FASTER_10, FASTV_10),
        )
        at_5 = ratio(rows, FASTER_5, FULL)
        note = f"at 5 % the ratio to all tokens is {at_5.value:.3g} ({at_5.low:.3g} to {at_5.high:.3g})"
        estimates = [
            Estimate(margin=margin, interval=interval)
            for margin, interval in zip(self.margin, intervals, strict=True)
        ]
        return judge(estimates, note=note)


def _visual(arm: str, seed: int) -> VisualBudget | None:
    from foveate.engine import VisualBudget
    from foveate.reduce import get_reducer

    if arm not in METHODS:
        return None
    method, budget = METHODS[arm]
    settings: dict[str, Any] = {"seed": seed} if method == "random" else {}
    if arm == FASTER_KEPT:
        settings["positions"] = "keep"
    return VisualBudget(budget=budget, reducer=get_reducer(method, **settings))
