"""The smoke tier of every claim, as CI runs it; and what of a timing claim does not depend on the clock."""

from __future__ import annotations

import pytest

from foveate.claims import registry
from foveate.claims.base import Outcome, Tier
from foveate.claims.running import execute
from foveate.claims.xllm_batching import CACHED, CONTINUOUS, LOADS, STATIC


@pytest.mark.parametrize("name", registry.CLAIMS)
def test_smoke_runs_and_decides_nothing(name, tmp_path):
    claim = registry.get(name)
    result = execute(
        claim,
        tier=Tier.SMOKE,
        seeds=claim.seeds[Tier.SMOKE][:1],
        folder=tmp_path,
        machine={},
        command=f"foveate claims run {name}",
    )
    assert result["verdict"]["outcome"] == Outcome.UNDECIDED
    assert len(result["verdict"]["estimates"]) == len(claim.margin)
    assert {row["arm"] for row in result["rows"]} == {arm.name for arm in claim.arms}
    if name == "xllm-batching":
        check_batching_by_counting(result["rows"])


def check_batching_by_counting(rows):
    """Steps, encoded pictures and tokens are exact, whatever the machine was doing."""
    arms = {row["arm"]: row for row in rows}
    load = LOADS[Tier.SMOKE]
    assert len({row["output_tokens"] for row in rows}) == 1
    assert arms[STATIC]["answers"] == arms[CONTINUOUS]["answers"] == arms[CACHED]["answers"]
    assert arms[CONTINUOUS]["steps"] < 0.8 * arms[STATIC]["steps"]
    assert arms[STATIC]["encoded_images"] == arms[CONTINUOUS]["encoded_images"] == load.requests
    assert arms[CACHED]["encoded_images"] == load.pictures
    assert arms[STATIC]["prefix_hit_tokens"] == arms[CONTINUOUS]["prefix_hit_tokens"] == 0
    assert arms[CACHED]["prefix_hit_tokens"] >= 100 * (load.requests - load.pictures)


@pytest.mark.parametrize("tier", Tier)
def test_a_load_is_the_same_for_every_arm_and_other_for_every_seed(tier):
    load = LOADS[tier]
    assert load.lengths(3) == load.lengths(3) != load.lengths(4)
    assert len(load.lengths(0)) == load.requests and load.slots * 2 <= load.pictures
    assert min(load.lengths(0)) >= 2 and max(load.lengths(0)) <= load.longest


def row(arm, seed, speed, wait, tokens=10, answers=("a", "b")):
    return {
        "arm": arm,
        "seed": seed,
        "tokens_per_second": speed,
        "mean_seconds_to_first_token": wait,
        "output_tokens": tokens,
        "answers": list(answers),
    }


def burst(seed, speed, wait, **changed):
    return [
        row(STATIC, seed, 10, 2.0),
        row(CONTINUOUS, seed, 10 * speed, 1.0),
        row(CACHED, seed, 30, wait, **changed),
    ]


def test_ratios_are_paired_by_seed():
    claim = registry.get("xllm-batching")
    rows = [r for seed in range(5) for r in burst(seed, 1.5 + seed / 100, 0.5)]
    verdict = claim.verdict(rows)
    assert verdict.outcome is Outcome.REPRODUCED and "20 of 20 answers" in verdict.reason
    assert verdict.estimates[0].interval.value == pytest.approx(1.52, abs=0.001)
    assert verdict.estimates[1].interval.value == pytest.approx(0.5)
    slow = claim.verdict([r for seed in range(5) for r in burst(seed, 1.05 + seed / 100, 0.5)])
    assert slow.outcome is Outcome.NOT_REPRODUCED and slow.direction


def test_unequal_tokens_decide_nothing():
    claim = registry.get("xllm-batching")
    verdict = claim.verdict([r for seed in range(5) for r in burst(seed, 2, 0.5, tokens=11)])
    assert verdict.outcome is Outcome.UNDECIDED and "equally many tokens" in verdict.reason


def test_other_answers_are_counted():
    claim = registry.get("xllm-batching")
    verdict = claim.verdict([r for seed in range(5) for r in burst(seed, 2, 0.5, answers=("a", "c"))])
    assert "15 of 20 answers" in verdict.reason
