"""The rule behind verdicts, the registry, the list of systems, and what makes a result stale."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import foveate
from foveate.claims import base, registry, results, systems
from foveate.claims.base import Claim, ClaimError, Estimate, Margin, Outcome, Tier, judge
from foveate.evaluate.statistics import Interval

PACKAGE = Path(foveate.__file__).parent
GAIN = Margin(quantity="gain", threshold=1.2)
COST = Margin(quantity="cost", threshold=0.8, at_least=False)


def estimate(margin: Margin, low: float, value: float, high: float) -> Estimate:
    return Estimate(margin=margin, interval=Interval(value=value, low=low, high=high, method="by hand"))


@pytest.mark.parametrize(
    ("estimates", "outcome", "direction"),
    [
        ([estimate(GAIN, 1.2, 1.3, 1.4), estimate(COST, 0.5, 0.6, 0.8)], Outcome.REPRODUCED, True),
        ([estimate(GAIN, 1.3, 1.4, 1.5), estimate(COST, 0.7, 0.79, 0.81)], Outcome.UNDECIDED, True),
        ([estimate(GAIN, 1.1, 1.3, 1.5), estimate(COST, 0.81, 0.9, 0.95)], Outcome.NOT_REPRODUCED, True),
        ([estimate(GAIN, 0.7, 0.9, 1.19)], Outcome.NOT_REPRODUCED, False),
        ([estimate(GAIN, -math.inf, 5.0, math.inf)], Outcome.UNDECIDED, True),
    ],
)
def test_verdicts_follow_the_intervals(estimates, outcome, direction):
    verdict = judge(estimates, note="a note")
    assert (verdict.outcome, verdict.direction) == (outcome, direction)
    assert verdict.reason.endswith("a note")
    json.dumps(verdict.as_object(), allow_nan=False)  # an open end is null, not Infinity


def test_a_tolerated_loss_points_the_right_way_while_it_is_tolerated():
    loss = Margin(quantity="accuracy, less - full", threshold=-0.02, no_effect=None)
    assert estimate(loss, -0.05, -0.01, 0.03).points_the_claimed_way
    assert not estimate(loss, -0.05, -0.03, 0.03).points_the_claimed_way
    cost = Margin(quantity="seconds more", threshold=0.1, at_least=False, no_effect=None)
    assert estimate(cost, 0.0, 0.05, 0.2).points_the_claimed_way


def test_the_example_in_the_documents_is_a_claim():
    text = (PACKAGE.parents[1] / "docs" / "claims.md").read_text(encoding="utf-8")
    code = text.split("```python\n", 1)[1].split("```", 1)[0]
    scope = {name: getattr(base, name) for name in ("Arm", "Claim", "Margin", "Paper", "Tier")}
    exec(code, scope)
    example = scope["MyClaim"]()
    assert isinstance(example, Claim) and example.system in {system.name for system in systems.SYSTEMS}
    assert estimate(example.margin[0], -0.015, -0.01, 0.0).passed


def test_a_reason_names_what_decided():
    verdict = judge([estimate(GAIN, 1.3, 1.4, 1.5), estimate(COST, 0.7, 0.79, 0.81)])
    assert "cost: at most 0.8, measured 0.79 (0.7 to 0.81)" in verdict.reason and "gain" not in verdict.reason


@given(st.lists(st.floats(0.1, 3), min_size=3, max_size=3), st.booleans())
def test_nothing_passes_and_fails(ends, at_least):
    low, value, high = sorted(ends)
    one = estimate(Margin(quantity="x", threshold=1.2, at_least=at_least), low, value, high)
    assert not (one.passed and one.failed)
    if low < 1.2 < high:
        assert not one.passed and not one.failed


@pytest.mark.parametrize("name", registry.CLAIMS)
def test_every_claim_keeps_the_contract(name):
    claim = registry.get(name)
    assert isinstance(claim, Claim)
    assert claim.name == name and claim.system == registry.CLAIMS[name].system
    assert claim.system in {system.name for system in systems.SYSTEMS}
    assert claim.statement.endswith(".") and claim.limits.endswith(".") and claim.paper.title
    assert len(claim.arms) >= 2 and len({arm.name for arm in claim.arms}) == len(claim.arms)
    assert claim.margin and all(re.fullmatch(r"[a-z0-9_-]+", arm.name) for arm in claim.arms)
    for tier in Tier:
        assert claim.steps(tier) >= 1 and len(set(claim.seeds[tier])) == len(claim.seeds[tier]) >= 1
    assert len(claim.seeds[Tier.CLAIM]) >= 3
    assert type(claim).__module__ in claim.sources
    assert len(results.code_digest(claim)) == 16


def test_an_unknown_claim_names_the_nearest():
    with pytest.raises(ClaimError, match="Did you mean 'xllm-batching'"):
        registry.get("xllm-baching")


def test_looking_at_claims_imports_no_torch():
    code = (
        "import sys; from foveate.cli.main import run; "
        "run(['claims', 'list']); run(['claims', 'table']); run(['claims', 'show', 'xllm-batching']); "
        "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_there_are_36_systems_with_checkable_references():
    names = [system.name for system in systems.SYSTEMS]
    assert len(names) == len(set(names)) == 36
    rooms = {"models", "reduce", "engine", "decode", "route", "curate", "train", "evaluate", "act", "create"}
    for system in systems.SYSTEMS:
        assert system.room in rooms, system.name
        if system.file is not None:
            assert (PACKAGE / system.file).is_file(), system.file
        if system.arxiv is not None:
            assert re.fullmatch(r"\d{4}\.\d{5}", system.arxiv) and system.title
            assert system.year == 2000 + int(system.arxiv[:2])
    numbers = [system.arxiv for system in systems.SYSTEMS if system.arxiv]
    assert len(numbers) == len(set(numbers))


def test_states_come_from_recorded_results(tmp_path):
    def state_of(system: str) -> str:
        return next(row.state for row in systems.standings(tmp_path) if row.system.name == system)

    assert state_of("xLLM") == systems.RUNNING and state_of("Giraffe") == systems.NOT_BUILT
    claim = registry.get("xllm-batching")
    recorded = {
        "code": results.code_digest(claim),
        "tier": "claim",
        "rows": [],
        "verdict": {"outcome": "not reproduced at this scale"},
    }
    path = results.path_of(tmp_path, claim.name)
    path.write_text(json.dumps(recorded))
    assert state_of("xLLM") == "not reproduced at this scale"
    path.write_text(json.dumps({**recorded, "code": "0" * 16}))
    assert state_of("xLLM") == systems.STALE
    for broken in ("{", "[]", '{"rows": []}'):
        path.write_text(broken)
        with pytest.raises(ClaimError, match="is not a result"):
            state_of("xLLM")


def test_a_fingerprint_changes_with_a_comment(tmp_path, monkeypatch):
    """The strict rule: any change in a claim's code makes its result stale."""
    module = tmp_path / "a_claim_of_a_test.py"
    module.write_text("MARGIN = 1.2\n")
    monkeypatch.syspath_prepend(tmp_path)
    claim = registry.get("xllm-batching")
    monkeypatch.setattr(claim, "sources", ("a_claim_of_a_test",), raising=False)
    first = results.code_digest(claim)
    module.write_text("MARGIN = 1.2  # of what?\n")
    assert results.code_digest(claim) != first
