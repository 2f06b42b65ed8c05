"""HiRED's budgets for tiles against equal ones, on a model whose answers can be checked.

Owns the arms, the margins and the control. No trained tiled model is at hand: fovea-nano's weights under LLaVA-NeXT's
tiles stand in, which were never trained on tiles. Its answers get better the larger the overview's part is, and
HiRED gives the overview half of the budget; so beside shares by size there is a control with HiRED's overview and
equal tiles, which differs from HiRED in what its attention decides and in nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from foveate.claims.asking import ask_all, dialogues, difference, row_of
from foveate.claims.base import Arm, Claim, Estimate, Margin, Paper, Progress, Row, Tier, Verdict, judge
from foveate.evaluate.statistics import Interval, bootstrap_mean

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel
    from foveate.reduce.base import Reducer

FAMILIES = ("existence", "attribute")
FULL, HIRED, LEVEL, UNIFORM = "full", "hired-20", "level-20", "uniform-20"
BUDGET = "20%"
PICTURES = {Tier.SMOKE: 12, Tier.CLAIM: 40}
EACH = 2  # questions of a family about a picture, at most
SIZE = 336  # pixels: 2 x 2 tiles of 168


class TileBudgets(Claim):
    """Accuracy and the objects' tokens that are kept, under three ways to share a fifth of the tokens."""

    name = "hired-tiles"
    system = "HiRED"
    statement = (
        "At 20 % of the tokens of five tiles HiRED's budgets answer more about existence and attributes than budgets "
        "by size, and more than equal tiles beside the same overview; and they keep more of the tiles' tokens that "
        "show objects than equal tiles do (fovea-nano's weights under LLaVA-NeXT's tiles, which they were not trained "
        "on: 148 of 744 tokens; world pictures of 336 pixels, difficulty 2)."
    )
    limits = (
        "a model trained on tiles, and the paper's benchmarks; with this stand-in fewer tokens answer better than all "
        "of them, so nothing is said about accuracy lost. Throughput and memory are the claim hired-speed."
    )
    paper = Paper(
        title="HiRED: Attention-Guided Token Dropping for Efficient Inference of High-Resolution "
        "Vision-Language Models",
        arxiv="2408.10945",
        year=2024,
    )
    arms = (
        Arm(name=FULL, description="all 744 tokens, newlines among them"),
        Arm(name=HIRED, description="half to the overview, tiles by where its early CLS row looks"),
        Arm(name=LEVEL, description="half to the overview, all tiles alike"),
        Arm(name=UNIFORM, description="overview and tiles alike, by their size"),
    )
    margin = (
        Margin(quantity="accuracy, HiRED - shares by size", threshold=0.0, no_effect=0.0),
        Margin(quantity="accuracy, HiRED - equal tiles", threshold=0.0, no_effect=0.0),
        Margin(quantity="objects' tokens kept in tiles, HiRED - equal tiles", threshold=0.0, no_effect=0.0),
    )
    seeds: ClassVar = {Tier.SMOKE: (0,), Tier.CLAIM: (11, 12, 13, 14)}
    sources = (
        "foveate.claims.hired_tiles",
        "foveate.claims.tile_control",
        "foveate.claims.asking",
        "foveate.claims.made_models",
    )

    @cached_property
    def _model(self) -> VisionLanguageModel:
        from foveate.claims.made_models import tiled_nano

        return tiled_nano()

    def steps(self, tier: Tier) -> int:
        return PICTURES[tier] * EACH * len(FAMILIES)

    def measure(self, arm: str, *, tier: Tier, seed: int, progress: Progress) -> list[Row]:
        from foveate.claims.tile_control import objects_kept
        from foveate.engine import VisualBudget

        asked = dialogues("shapes", FAMILIES, pictures=PICTURES[tier], each=EACH, seed=seed, size=SIZE)
        reducer = _reducer(arm)
        visual = None if reducer is None else VisualBudget(budget=BUDGET, reducer=reducer)
        replies = ask_all(self._model, asked, visual, progress=progress)
        shares = objects_kept(self._model, reducer, BUDGET, asked)
        return [
            {
                **row_of(arm, seed, asked, replies),
                "objects_kept": sum(shares) / len(shares),
                "objects_kept_by_picture": [round(share, 6) for share in shares],
            }
        ]

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Questions, and for the objects' tokens pictures, of all seeds together."""
        intervals = (
            difference(rows, HIRED, UNIFORM),
            difference(rows, HIRED, LEVEL),
            _more_objects(rows, HIRED, LEVEL),
        )
        return judge(
            [
                Estimate(margin=margin, interval=interval)
                for margin, interval in zip(self.margin, intervals, strict=True)
            ]
        )


def _reducer(arm: str) -> Reducer | None:
    from foveate.claims.tile_control import LevelHiRED
    from foveate.reduce import get_reducer

    if arm == FULL:
        return None
    return (
        LevelHiRED()
        if arm == LEVEL
        else get_reducer("hired", tiles="uniform" if arm == UNIFORM else "default")
    )


def _more_objects(rows: Sequence[Row], first: str, second: str) -> Interval:
    """Shares of one arm minus those of the other, picture by picture."""

    def shares(arm: str) -> list[float]:
        mine = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["seed"])
        return [share for row in mine for share in row["objects_kept_by_picture"]]

    return bootstrap_mean([a - b for a, b in zip(shares(first), shares(second), strict=True)])
