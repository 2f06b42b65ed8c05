"""Runs a claim arm by arm and seed by seed, keeps each piece as it is done, and goes on where it was stopped.

Owns the order, the unfinished pieces and the end of a run. Knows no claim's content and no terminal.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foveate.claims import reporting, results
from foveate.claims.base import Claim, ClaimError, Outcome, Progress, Row, Tier, Verdict
from foveate.evaluate.provenance import commit, write_atomically

UNFINISHED = ".unfinished"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One arm and seed of a run, told as it begins, goes on and ends.

    Attributes:
        number, total: place of the piece in the run, from 1.
        done, steps: progress inside the piece.
        ended: its rows are safe.
        kept: they were measured by an earlier, stopped run.
    """

    arm: str
    seed: int
    number: int
    total: int
    done: int
    steps: int
    ended: bool = False
    kept: bool = False


def execute(
    claim: Claim,
    *,
    tier: Tier,
    seeds: Sequence[int] | None = None,
    folder: Path,
    machine: Mapping[str, Any],
    command: str,
    restart: bool = False,
    tell: Callable[[Piece], None] = lambda piece: None,
) -> dict[str, Any]:
    """Runs what is not done yet, judges, and in the claim tier writes NAME.json, NAME.md and NAME.png.

    Args:
        seeds: those of the tier by default.
        machine: what the numbers are measured on, without names or paths.
        restart: forget the pieces of a stopped run.

    Raises:
        ClaimError: no seeds, or seeds named twice.
        MissingExtraError: the claim tier draws a plot, and matplotlib is not there; told before anything runs.
    """
    chosen = tuple(claim.seeds[tier] if seeds is None else seeds)
    if not chosen or len(set(chosen)) != len(chosen):
        raise ClaimError(f"seeds {list(chosen)}", why="at least one is needed, and each only once")
    if tier is Tier.CLAIM:
        reporting.require_plots()
    unfinished = folder / UNFINISHED / f"{claim.name}.{tier}"
    if restart:
        shutil.rmtree(unfinished, ignore_errors=True)
    rows, commits = _measure_all(claim, tier, chosen, unfinished, tell)
    verdict = claim.verdict(rows)
    if tier is Tier.SMOKE:
        verdict = _direction_only(verdict)
    result = results.compose(
        claim,
        rows,
        verdict,
        tier=tier,
        seeds=chosen,
        machine=machine,
        command=command,
        commit=", ".join(dict.fromkeys(commits)),
    )
    if tier is Tier.CLAIM:
        reporting.draw(result, folder / f"{claim.name}.png")
        write_atomically(folder / f"{claim.name}.md", reporting.markdown(result))
        write_atomically(results.path_of(folder, claim.name), results.dump(result))
    shutil.rmtree(unfinished, ignore_errors=True)
    if unfinished.parent.is_dir() and not any(unfinished.parent.iterdir()):
        unfinished.parent.rmdir()
    return result


def _measure_all(
    claim: Claim, tier: Tier, seeds: Sequence[int], unfinished: Path, tell: Callable[[Piece], None]
) -> tuple[list[Row], list[str]]:
    """Rows by seed and arm, and the commit that each piece was measured at."""
    code, made_at = results.code_digest(claim), commit()
    pieces: dict[tuple[int, str], dict[str, Any]] = {}
    total, steps = len(seeds) * len(claim.arms), claim.steps(tier)
    for place, seed in enumerate(seeds):
        # Each seed begins with another arm: what drifts with time then favours none of them.
        shift = place % len(claim.arms)
        for arm in (*claim.arms[shift:], *claim.arms[:shift]):
            piece = Piece(arm=arm.name, seed=seed, number=len(pieces) + 1, total=total, done=0, steps=steps)
            path = unfinished / f"{arm.name}.{seed}.json"
            done = _kept(path, code)
            kept = done is not None
            if done is None:
                tell(piece)
                rows = claim.measure(arm.name, tier=tier, seed=seed, progress=_told(tell, piece))
                done = {"code": code, "commit": made_at, "rows": rows}
                write_atomically(path, json.dumps(done) + "\n")
            tell(replace(piece, done=steps, ended=True, kept=kept))
            pieces[seed, arm.name] = done
    ordered = [pieces[seed, arm.name] for seed in seeds for arm in claim.arms]
    return [row for one in ordered for row in one["rows"]], [one["commit"] for one in ordered]


def _told(tell: Callable[[Piece], None], piece: Piece) -> Progress:
    return lambda done: tell(replace(piece, done=done))


def _kept(path: Path, code: str) -> dict[str, Any] | None:
    """A piece that a stopped run measured with this very claim code."""
    if not path.is_file():
        return None
    piece: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return piece if piece["code"] == code else None


def _direction_only(verdict: Verdict) -> Verdict:
    """Smoke decides nothing: it says whether the numbers point the claimed way."""
    way = "and it is the claimed one" if verdict.direction else "and it is not the claimed one"
    reason = f"the smoke tier shows the direction only, {way}; {verdict.reason}"
    return replace(verdict, outcome=Outcome.UNDECIDED, reason=reason)
