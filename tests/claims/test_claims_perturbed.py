"""What the claims about markers and codecs conclude from rows, without a model."""

from __future__ import annotations

import numpy as np
import pytest

from foveate.claims import registry
from foveate.claims.base import Outcome, Tier
from foveate.claims.codec import PNG, QUALITIES, CodecMoves
from foveate.claims.vpbench_markers import ITEMS, OTHER_TASKS, POLICIES, STYLES, MarkersReorder
from foveate.evaluate.perturb.axes import AXES
from foveate.evaluate.perturb.markers import DEFAULT_LOOK

ITEMS_MADE = 200


def marker_rows(shares: dict[str, dict[str, float]], *, alike: float) -> list[dict[str, object]]:
    """Rows of every policy: `shares` of right answers by policy and style, `alike` where none is given.

    An item is right where its difficulty lies below the share, so that policies and styles agree but for the shares.
    """
    generator = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for seed in (1, 2):
        difficulty = generator.random(ITEMS_MADE)
        for arm in POLICIES:
            for style in STYLES[Tier.CLAIM]:
                share = shares.get(arm, {}).get(style, alike)
                right = difficulty + generator.normal(0, 0.05, ITEMS_MADE) < share
                rows.append(
                    {
                        "arm": arm,
                        "seed": seed,
                        "style": style,
                        "accuracy": float(right.mean()),
                        "unparsed": 0.0,
                        "questions": ITEMS_MADE,
                        "right": "".join(str(int(r)) for r in right),
                    }
                )
        for arm in OTHER_TASKS:
            rows.append(rows[-1] | {"arm": arm, "style": DEFAULT_LOOK, "unparsed": 1.0})
    return rows


def test_the_default_and_sixteen_styles_are_asked_of_the_same_items() -> None:
    assert STYLES[Tier.CLAIM] == (DEFAULT_LOOK, *AXES["markers"].points)
    assert set(STYLES[Tier.SMOKE]) < set(STYLES[Tier.CLAIM])
    claim = MarkersReorder()
    assert [arm.name for arm in claim.arms] == [*POLICIES, *OTHER_TASKS]
    assert claim.steps(Tier.CLAIM) == 17 * ITEMS[Tier.CLAIM]


def test_policies_that_trade_places_are_told_from_those_that_do_not() -> None:
    steady = {arm: dict.fromkeys(STYLES[Tier.CLAIM], 0.9 - 0.1 * n) for n, arm in enumerate(POLICIES)}
    verdict = MarkersReorder().verdict(marker_rows(steady, alike=0.5))
    assert verdict.outcome is Outcome.NOT_REPRODUCED, verdict.reason
    assert "separable: none" in verdict.reason
    assert "of depth's replies 1 cannot be read" in verdict.reason
    order = list(POLICIES)
    turned = {
        arm: {
            style: 0.9 - 0.1 * (order[::-1] if style in ("square", "blue", "digits") else order).index(arm)
            for style in STYLES[Tier.CLAIM]
        }
        for arm in POLICIES
    }
    verdict = MarkersReorder().verdict(marker_rows(turned, alike=0.5))
    assert verdict.outcome is Outcome.REPRODUCED, verdict.reason
    changes, shift, separable = verdict.estimates
    assert changes.interval.value > 30
    assert shift.interval.value > 5
    assert separable.interval.value == 3 * 21


def codec_rows(wrong: dict[str, int], *, named: float = 1.0, changed: int = 0) -> list[dict[str, object]]:
    """1,000 questions; PNG gets all right, each other codec as many wrong as told, and `changed` answers differ."""
    rows = []
    for arm in (PNG, *QUALITIES):
        right = [0 if n < wrong.get(arm, 0) else 1 for n in range(1000)]
        different = max(wrong.get(arm, 0), 0 if arm == PNG else changed)
        rows.append(
            {
                "arm": arm,
                "seed": 1,
                "accuracy": sum(right) / 1000,
                "questions": 1000,
                "families": "count*1000",
                "pictures": " ".join(f"{n}*1" for n in range(1000)),
                "right": "".join(map(str, right)),
                "pixels_named": named,
                "answers": ["other" if n < different else "same" for n in range(1000)],
            }
        )
    return rows


@pytest.mark.parametrize(
    ("rows", "outcome"),
    [
        (codec_rows({"jpeg-70": 40}, changed=30), Outcome.REPRODUCED),
        (codec_rows({}, changed=30), Outcome.UNDECIDED),
        (codec_rows({"jpeg-70": 40}, changed=1), Outcome.NOT_REPRODUCED),
        (codec_rows({"jpeg-70": 40}, changed=30, named=0.999), Outcome.NOT_REPRODUCED),
    ],
)
def test_codecs_are_judged_by_paired_answers(rows: list[dict[str, object]], outcome: Outcome) -> None:
    verdict = CodecMoves().verdict(rows)
    assert verdict.outcome is outcome, verdict.reason
    assert "answers changed:" in verdict.reason


def test_both_belong_to_vpbench() -> None:
    assert registry.of_system("VPBench") == ["codec", "vpbench-markers"]
