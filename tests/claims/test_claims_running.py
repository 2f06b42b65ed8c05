"""Runs that are stopped and go on, results that hold what was measured, and the command line around them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest

from foveate.claims import registry, results
from foveate.claims.base import Arm, Claim, ClaimError, Estimate, Margin, Outcome, Paper, Tier, judge
from foveate.claims.running import UNFINISHED, execute
from foveate.errors import MissingExtraError
from foveate.evaluate.statistics import t_interval

MACHINE = {"processor": "a test", "cores": 1}


class Arithmetic(Claim):
    """Doubling is larger than nothing, by 1 plus a hundredth of the seed."""

    name = "arithmetic"
    system = "xLLM"
    statement = "Twice is more than once."
    limits = "numbers below zero."
    paper = Paper(title="A test")
    arms = (Arm(name="once", description="x"), Arm(name="twice", description="2 x"))
    margin = (Margin(quantity="difference", threshold=0.9, no_effect=0.0),)
    seeds: ClassVar = {Tier.SMOKE: (0,), Tier.CLAIM: (0, 1, 2)}
    sources = (__name__,)

    def __init__(self) -> None:
        self.measured: list[tuple[str, int]] = []
        self.stop_after = 99

    def steps(self, tier):
        return 2

    def measure(self, arm, *, tier, seed, progress):
        if len(self.measured) == self.stop_after:
            raise KeyboardInterrupt
        self.measured.append((arm, seed))
        progress(1)
        value = (1 + seed / 100) * (2 if arm == "twice" else 1)
        return [{"arm": arm, "seed": seed, "value": value, "note": "text"}]

    def verdict(self, rows):
        by = {(row["arm"], row["seed"]): row["value"] for row in rows}
        seeds = sorted({row["seed"] for row in rows})
        found = t_interval([by["twice", seed] - by["once", seed] for seed in seeds])
        return judge([Estimate(margin=self.margin[0], interval=found)])


def run(claim: Claim, folder: Path, tier: Tier = Tier.CLAIM, **options):
    return execute(claim, tier=tier, folder=folder, machine=MACHINE, command="foveate test", **options)


def test_a_claim_writes_result_table_and_plot(tmp_path):
    result = run(Arithmetic(), tmp_path)
    assert json.loads((tmp_path / "arithmetic.json").read_text()) == result
    assert result["verdict"]["outcome"] == Outcome.REPRODUCED
    assert result["verdict"]["estimates"][0]["value"] == pytest.approx(1.01)
    assert (result["seeds"], result["machine"], len(result["rows"])) == ([0, 1, 2], MACHINE, 6)
    page = (tmp_path / "arithmetic.md").read_text()
    assert "# arithmetic: reproduced" in page and "| difference | 1.01 |" in page and "at least 0.9" in page
    assert "| twice | 2.02 |" in page
    assert (tmp_path / "arithmetic.png").read_bytes()[:4] == b"\x89PNG"
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        "arithmetic.json",
        "arithmetic.md",
        "arithmetic.png",
    }
    here = (str(Path.home()), str(Path.cwd()), os.uname().nodename)
    assert not any(word in json.dumps(result) for word in here)


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    claim = Arithmetic()
    claim.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        run(claim, tmp_path)
    assert len(claim.measured) == 3 and not (tmp_path / "arithmetic.json").exists()
    claim.stop_after = 99
    pieces = []
    result = run(claim, tmp_path, tell=pieces.append)
    assert Counter(claim.measured) == Counter((arm.name, seed) for arm in claim.arms for seed in range(3))
    assert sum(piece.ended and piece.kept for piece in pieces) == 3
    assert result["rows"] == run(Arithmetic(), tmp_path / "other")["rows"]
    assert not (tmp_path / UNFINISHED).exists()


def test_pieces_of_other_code_are_measured_again(tmp_path, monkeypatch):
    claim = Arithmetic()
    claim.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        run(claim, tmp_path)
    monkeypatch.setattr(results, "code_digest", lambda claim: "other")
    claim.stop_after = 99
    run(claim, tmp_path)
    assert len(claim.measured) == 3 + 6


def test_restart_forgets(tmp_path):
    claim = Arithmetic()
    claim.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        run(claim, tmp_path)
    claim.stop_after = 99
    run(claim, tmp_path, restart=True)
    assert len(claim.measured) == 2 + 6


def test_each_seed_begins_with_another_arm(tmp_path):
    claim = Arithmetic()
    run(claim, tmp_path)
    assert [arm for arm, _ in claim.measured] == ["once", "twice", "twice", "once", "once", "twice"]


def test_smoke_decides_nothing_and_writes_nothing(tmp_path):
    result = run(Arithmetic(), tmp_path, Tier.SMOKE)
    assert result["verdict"]["outcome"] == Outcome.UNDECIDED and result["verdict"]["direction"]
    assert "and it is the claimed one" in result["verdict"]["reason"]
    assert not list(tmp_path.iterdir())


def test_run_of_one_seed_gives_all_arms():
    ticks = []
    rows = Arithmetic().run(Tier.SMOKE, 7, ticks.append)
    assert [(row["arm"], row["seed"]) for row in rows] == [("once", 7), ("twice", 7)]
    assert ticks == [1, 3]


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_seeds_that_cannot_be_are_refused(tmp_path, seeds):
    with pytest.raises(ClaimError, match="seeds"):
        run(Arithmetic(), tmp_path, seeds=seeds)


def test_a_missing_plot_package_is_told_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("foveate.claims.reporting.importlib.util.find_spec", lambda name: None)
    claim = Arithmetic()
    with pytest.raises(MissingExtraError, match=r"foveate\[plots\]"):
        run(claim, tmp_path)
    assert not claim.measured


# -- the command line -------------------------------------------------------------------------------------


def foveate(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "foveate.cli", "claims", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_verbs_print_and_refuse(tmp_path):
    listed = json.loads(foveate("list", "--json", "--results", tmp_path).stdout)["claims"]
    assert [row["name"] for row in listed] == list(registry.CLAIMS) and listed[0]["state"] == "running"
    assert len(json.loads(foveate("table", "--json").stdout)["systems"]) == 36
    shown = json.loads(foveate("show", "xllm-batching", "--json", "--results", tmp_path).stdout)
    assert shown["result"] is None and shown["margin"]
    for words, says in (
        (("show", "xllm-batchin"), "Did you mean 'xllm-batching'"),
        (("run", "xllm-batching", "--tier", "smok"), "Did you mean 'smoke'"),
        (("run", "xllm-batching", "--seeds", "1,a"), "--seeds 0,1,2"),
        (("run", "xllm-batching", "--seeds", "1,1"), "only once"),
    ):
        done = foveate(*words)
        assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_ctrl_c_keeps_what_was_done(tmp_path):
    """A process of its own gets the signal in the middle of a piece; the next run finds the earlier ones."""
    slow = textwrap.dedent(
        """
        import signal, sys, time
        sys.path.insert(0, sys.argv[1])
        signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in a shell's background ignore it
        from foveate.claims import registry
        from foveate.cli.main import run
        from test_claims_running import Arithmetic

        class Slow(Arithmetic):
            def measure(self, arm, *, tier, seed, progress):
                rows = super().measure(arm, tier=tier, seed=seed, progress=progress)
                if len(self.measured) == 3 and sys.argv[3] == "slow":
                    print("in the middle", flush=True)
                    time.sleep(60)
                return rows

        registry.CLAIMS["arithmetic"] = registry.CLAIMS["xllm-batching"]
        registry.get = lambda name: Slow()
        sys.exit(run(["claims", "run", "arithmetic", "--tier", "claim", "--results", sys.argv[2]]))
        """
    )
    words = [sys.executable, "-c", slow, str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(
        [*words, "slow"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "in the middle\n"
        time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=30)
    assert child.returncode == 130 and "Traceback" not in errors
    done = subprocess.run([*words, "fast"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("kept from a stopped run") == 2
    assert "reproduced" in done.stdout and (tmp_path / "arithmetic.json").is_file()
