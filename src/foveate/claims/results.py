"""Recorded results: one JSON file a claim, with everything needed to judge it again, and whether it is stale.

Owns the files' place and form and the fingerprint of a claim's code. Knows no claim's content.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import foveate
from foveate.claims.base import Claim, ClaimError, Row, Tier, Verdict
from foveate.evaluate.provenance import versions


def default_folder() -> Path:
    """results/claims of the checkout that this package runs from, else of the current folder."""
    checkout = Path(foveate.__file__).parents[2]
    root = checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()
    return root / "results" / "claims"


def code_digest(claim: Claim) -> str:
    """Fingerprint of the files that make a claim's numbers: any change in them, a comment too, is another claim."""
    digest = hashlib.sha256()
    for module in sorted(claim.sources):
        found = importlib.util.find_spec(module)
        assert found is not None and found.origin is not None, f"{claim.name} names the source {module}"
        digest.update(Path(found.origin).read_bytes())
    return digest.hexdigest()[:16]


def path_of(folder: Path, name: str) -> Path:
    """Where a claim's result is kept."""
    return folder / f"{name}.json"


def read(folder: Path, name: str) -> dict[str, Any] | None:
    """A claim's recorded result, None where there is none.

    Raises:
        ClaimError: a file that is no result.
    """
    path = path_of(folder, name)
    if not path.is_file():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ClaimError(
            f"{path} is not a result", why=str(error), fix=f"Measure it again: foveate claims run {name}"
        ) from None
    if not isinstance(result, dict) or not {"code", "verdict", "rows", "tier"} <= result.keys():
        raise ClaimError(
            f"{path} is not a result",
            why="it lacks code, verdict, rows or tier",
            fix=f"Measure it again: foveate claims run {name}",
        )
    return result


def is_stale(result: Mapping[str, Any], claim: Claim) -> bool:
    """Whether other claim code made it than is here now."""
    return bool(result["code"] != code_digest(claim))


def compose(
    claim: Claim,
    rows: Sequence[Row],
    verdict: Verdict,
    *,
    tier: Tier,
    seeds: Sequence[int],
    machine: Mapping[str, Any],
    command: str,
    commit: str,
) -> dict[str, Any]:
    """The document that is kept; `machine` describes where it was measured, without names or paths."""
    return {
        "claim": claim.name,
        "system": claim.system,
        "statement": claim.statement,
        "limits": claim.limits,
        "paper": asdict(claim.paper),
        "arms": [asdict(arm) for arm in claim.arms],
        "margin": [margin.text() for margin in claim.margin],
        "tier": str(tier),
        "seeds": list(seeds),
        "verdict": verdict.as_object(),
        "command": command,
        "code": code_digest(claim),
        "commit": commit,
        "machine": dict(machine),
        "versions": versions(),
        "rows": list(rows),
    }


def dump(result: Mapping[str, Any]) -> str:
    """JSON with one row a line, so that a difference between two runs can be read."""
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in result["rows"]]
    rest = json.dumps({**result, "rows": []}, indent=1, ensure_ascii=False, allow_nan=False)
    return rest.replace('"rows": []', '"rows": [\n  ' + ",\n  ".join(lines) + "\n ]") + "\n"
