"""`foveate claims`: published claims, what was measured about them, and running them again.

Owns what is printed. Imports no torch: only a claim that runs does.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli.failures import as_dict
from foveate.cli.progress import progress_bar
from foveate.cli.terminal import count, note, table
from foveate.cli.verbs import HELP_FLAGS
from foveate.errors import FoveateError, nearest

if TYPE_CHECKING:
    from foveate.claims.running import Piece

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, no_args_is_help=True, context_settings=HELP_FLAGS
)
Results = Annotated[
    Path | None,
    typer.Option("--results", help="Folder of results; else results/claims of the checkout or here."),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A claim, as `foveate claims list` names it.")]


@app.callback()
def root() -> None:
    """Published claims, each with an experiment of its own and its verdict."""


def _folder(chosen: Path | None) -> Path:
    from foveate.claims.results import default_folder

    return default_folder() if chosen is None else chosen


@app.command("list")
def list_claims(results: Results = None, as_json: Json = False) -> None:
    """Every claim with its system, its state and its statement."""
    from foveate.claims.registry import CLAIMS, get
    from foveate.claims.systems import claim_state

    folder = _folder(results)
    rows = [
        {
            "name": name,
            "system": entry.system,
            "state": claim_state(name, folder),
            "statement": get(name).statement,
        }
        for name, entry in CLAIMS.items()
    ]
    if as_json:
        print(as_dict({"claims": rows}))
        return
    print(table(("claim", "system", "state", "statement"), [tuple(row.values()) for row in rows]))
    note("run one with: foveate claims run NAME")


@app.command("table")
def table_of_systems(results: Results = None, as_json: Json = False) -> None:
    """Every published system that Foveate works on, and where it stands."""
    from foveate.claims.systems import standings

    rows = standings(_folder(results))
    if as_json:
        print(
            as_dict({"systems": [{**asdict(r.system), "claims": r.claims, "state": r.state} for r in rows]})
        )
        return
    lines = [
        (row.system.name, row.state, row.system.room, ", ".join(row.claims), row.system.arxiv or "")
        for row in rows
    ]
    print(table(("system", "state", "room", "claims", "arXiv"), lines))


@app.command()
def show(name: Name, results: Results = None, as_json: Json = False) -> None:
    """One claim: statement, paper, arms, margin, and the recorded result."""
    from foveate.claims import results as recorded
    from foveate.claims.registry import get
    from foveate.claims.systems import claim_state

    claim, folder = get(name), _folder(results)
    result, state = recorded.read(folder, name), claim_state(name, folder)
    if as_json:
        document = {
            "name": name,
            "system": claim.system,
            "statement": claim.statement,
            "limits": claim.limits,
            "paper": asdict(claim.paper),
            "arms": [asdict(arm) for arm in claim.arms],
            "margin": [margin.text() for margin in claim.margin],
            "state": state,
            "result": result,
        }
        print(as_dict(document))
        return
    number = f", arXiv {claim.paper.arxiv}" if claim.paper.arxiv else ""
    print(f"{name} ({claim.system}: {claim.paper.title}{number})\n\n{claim.statement}")
    print(f"Not shown here: {claim.limits}\n")
    print(table(("arm", "what it is"), [(arm.name, arm.description) for arm in claim.arms]))
    print(f"\nMargin, fixed before the run: {'; '.join(margin.text() for margin in claim.margin)}")
    print(f"State: {state}")
    if result is None:
        note(f"no result in {folder}; run: foveate claims run {name}")
    else:
        print()
        _print_result(result)


@app.command()
def run(
    name: Name,
    tier: Annotated[
        str, typer.Option("--tier", help="smoke: minutes, direction only. claim: writes the result.")
    ] = "smoke",
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Seeds, comma separated; else those of the claim.")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Forget what a stopped run has kept.")] = False,
    results: Results = None,
    as_json: Json = False,
) -> None:
    """Run a claim; stopped by Ctrl-C, the same command goes on where it was."""
    from foveate.claims.base import Tier
    from foveate.claims.registry import get
    from foveate.claims.running import execute
    from foveate.cli.machine import facts

    claim = get(name)
    if tier not in list(Tier):
        raise FoveateError(f"There is no tier {tier!r}", fix=nearest(tier, map(str, Tier)))
    chosen = list(claim.seeds[Tier(tier)]) if seeds is None else _numbers(seeds)
    folder, words = _folder(results), ["foveate", "claims", "run", name, "--tier", tier]
    if seeds is not None:
        words += ["--seeds", seeds]
    steps = len(chosen) * len(claim.arms) * claim.steps(Tier(tier))
    with progress_bar("steps", steps) as advance:
        result = execute(
            claim,
            tier=Tier(tier),
            seeds=chosen,
            folder=folder,
            machine=facts(),
            command=shlex.join(words),
            restart=restart,
            tell=_teller(advance),
        )
    if as_json:
        print(as_dict(result))
        return
    _print_result(result)
    if result["tier"] == Tier.CLAIM:
        note(f"wrote {folder / name}.json, .md and .png")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise FoveateError(f"--seeds {text!r} is not a list of numbers", fix="Try: --seeds 0,1,2") from None


def _teller(advance: Callable[[int], None]) -> Callable[[Piece], None]:
    """Moves the bar; where there is none, a line for each piece as it ends."""

    def tell(piece: Piece) -> None:
        advance((piece.number - 1) * piece.steps + piece.done)
        if piece.ended and not sys.stderr.isatty():
            kept = " (kept from a stopped run)" if piece.kept else ""
            note(f"{piece.number} of {piece.total}: {piece.arm}, seed {piece.seed}{kept}")

    return tell


def _print_result(result: dict[str, Any]) -> None:
    from foveate.claims.reporting import arm_rows, estimate_rows

    verdict = result["verdict"]
    print(table(("quantity", "measured", "95 % interval", "margin", "met"), estimate_rows(result)))
    print()
    print(table(*arm_rows(result)))
    print(f"\n{result['tier']} tier, {count(len(result['seeds']), 'seed')}: {verdict['outcome']}")
    note(verdict["reason"])
