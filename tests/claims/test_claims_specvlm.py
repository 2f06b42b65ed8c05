"""What the claim about SpecVLM says of made rows, and its own arithmetic: enumeration, chi-square, shared lessons."""

from __future__ import annotations

import pytest
import tiny

from foveate.claims import registry
from foveate.claims.base import Outcome, Tier
from foveate.claims.specvlm import NONE, ONE, PLANS, POOLED, RULE, SAMPLED, SHIPPED, STORED, TRAINED, WHOLE
from foveate.claims.specvlm_arms import School, chi_square_tail, enumerate_rule
from foveate.models import load


def made_rows(**changes) -> list[dict]:
    """Rows that meet every margin, of 60 prompts; `changes` are other passes or fields by arm."""
    count = 60
    passes = {WHOLE: 10, POOLED: 10, ONE: 12, NONE: 13, STORED: 11}
    rows = [{"arm": RULE, "seed": 0, "total_variation": 1e-16, "total_variation_of_the_mix": 0.5}]
    rows.append({"arm": SAMPLED, "seed": 0, "p_value": 0.4})
    shipped = {"tokens": [40] * count, "passes": [9, 10] * (count // 2), "chain_passes": [13] * count}
    rows.append({"arm": SHIPPED, "seed": 0, **shipped, "identical": [True] * count})
    for arm, number in passes.items():
        rows.append(
            {"arm": arm, "seed": 0, "tokens": [30] * count, "passes": [number, number + 1] * (count // 2)}
        )
    rows[3]["early_passes"] = [15, 16] * (count // 2)
    for row in rows:
        row.update(changes.get(row["arm"].replace("-", "_"), {}))
    return rows


def outcome_of(rows) -> tuple[Outcome, list[str]]:
    verdict = registry.get("specvlm").verdict(rows)
    return verdict.outcome, [one.margin.quantity for one in verdict.estimates if not one.passed]


def test_rows_that_meet_every_margin_reproduce_it():
    assert outcome_of(made_rows()) == (Outcome.REPRODUCED, [])
    assert list(TRAINED) == [WHOLE, POOLED, ONE, NONE, STORED]


@pytest.mark.parametrize(
    ("changes", "quantity"),
    [
        ({RULE: {"total_variation": 1e-3}}, "total variation of the rule, enumerated"),
        ({SHIPPED: {"identical": [True] * 59 + [False]}}, "share of greedy replies that are the plain ones"),
        ({SAMPLED: {"p_value": 1e-5}}, "p of chi-square, sampled pairs"),
        ({SHIPPED: {"passes": [13] * 60}}, "tokens a pass, shipped head"),
        ({WHOLE: {"early_passes": [10, 11] * 30}}, "tokens a pass, all online steps / a third of them"),
        ({"pool_4": {"passes": [12, 13] * 30}}, "tokens a pass, pooled 4 x / whole"),
        ({"one_token": {"passes": [10, 11] * 30}}, "tokens a pass, one token / whole"),
        ({"no_picture": {"passes": [10, 11] * 30}}, "tokens a pass, no picture / whole"),
        ({STORED: {"passes": [9, 10] * 30}}, "tokens a pass, online / stored"),
    ],
)
def test_each_margin_can_be_missed(changes, quantity):
    assert outcome_of(made_rows(**changes)) == (Outcome.NOT_REPRODUCED, [quantity])


def test_the_rule_is_exact_and_the_mix_is_not():
    found = enumerate_rule(2, seed=4)
    assert found["total_variation"] < 1e-12 < 1e-2 < found["total_variation_of_the_mix"]
    assert found["accepted_length"] > 1.3


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 3.841), (3, 7.815), (10, 18.307), (40, 55.758)])
def test_tails_of_chi_square_are_the_tabled_ones(freedom, quantile):
    assert chi_square_tail(quantile, freedom) == pytest.approx(0.05, abs=0.004)


def test_heads_of_one_seed_learn_from_the_same_tokens(tmp_path):
    model = load(tiny.build_tiny("llava", tmp_path), device="cpu", dtype="float32")
    school = School(model, PLANS[Tier.SMOKE], seed=1)
    found = {
        arm: school.train(*TRAINED[arm], stored=False, early=arm == WHOLE, progress=lambda done: None)
        for arm in (WHOLE, NONE)
    }
    assert found[WHOLE]["trained_tokens"] == found[NONE]["trained_tokens"] > 0
    assert found[WHOLE]["tokens"] == found[NONE]["tokens"] and "early_passes" not in found[NONE]
    stored = school.train(*TRAINED[STORED], stored=True, progress=lambda done: None)
    assert stored["tokens"] == found[WHOLE]["tokens"] and len(stored["passes"]) == PLANS[Tier.SMOKE].held_out
