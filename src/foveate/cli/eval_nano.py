"""`foveate eval-nano`: the committed accuracy of fovea-nano, or a fresh measurement of any model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli.failures import as_dict
from foveate.cli.inventory import embedded_folder
from foveate.cli.progress import progress_bar
from foveate.cli.terminal import note, table
from foveate.errors import FoveateError

RESULT = "evaluation.json"


def command(
    run: Annotated[
        bool, typer.Option("--run", help="Measure again instead of printing the committed result.")
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="With --run: another model than the embedded one.")
    ] = None,
    per_family: Annotated[
        int, typer.Option("--per-family", min=1, help="With --run: questions per family.")
    ] = 400,
    difficulty: Annotated[
        str, typer.Option("--difficulty", help="With --run: levels, comma separated.")
    ] = "2",
    out: Annotated[
        Path | None, typer.Option("--out", help="With --run: write the summary there, samples beside it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Accuracy per question family on held-out pictures, with Wilson intervals, chance and no-image baselines."""
    summary = _measure(model, per_family, difficulty, out) if run else _committed()
    if as_json:
        print(as_dict(summary))
        return
    for level, rows in summary["difficulty"].items():
        print(f"difficulty {level}")
        print(
            table(
                ("family", "accuracy", "95 % interval", "target", "chance", "no image", "unparsed", "n"),
                _lines(rows),
            )
        )
        print()
    print("by tag, at difficulty 2")
    print(
        table(
            ("tag", "accuracy", "95 % interval", "target", "chance", "no image", "unparsed", "n"),
            _lines(summary["tags"]),
        )
    )
    if not run:
        note(f"from {embedded_folder() / RESULT}; measure again with: foveate eval-nano --run")


def _lines(rows: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            f"{row['accuracy']:.1%}",
            f"{row['interval'][0]:.1%} to {row['interval'][1]:.1%}",
            f"{row['target']:.0%}" if "target" in row else "-",
            f"{row['chance']:.1%}",
            f"{row['no_image']:.1%}",
            str(row["unparsed"]),
            str(row["questions"]),
        )
        for name, row in rows.items()
    ]


def _committed() -> dict[str, Any]:
    path = embedded_folder() / RESULT
    if not path.exists():
        raise FoveateError(f"No committed result at {path}", fix="Measure one with: foveate eval-nano --run")
    return json.loads(path.read_text(encoding="utf-8"))


def _measure(model: str | None, per_family: int, difficulty: str, out: Path | None) -> dict[str, Any]:
    from foveate.evaluate.nano import SCORED_FAMILIES
    from foveate.evaluate.nano import run as measure
    from foveate.evaluate.provenance import describe_model
    from foveate.models import load

    try:
        levels = [int(part) for part in difficulty.split(",")]
    except ValueError:
        raise FoveateError(
            f"--difficulty {difficulty!r} is not a list of numbers", fix="Try: --difficulty 1,2,3"
        ) from None
    loaded = load(model)
    with progress_bar("questions", per_family * len(levels) * len(SCORED_FAMILIES)) as advance:
        summary, samples = measure(
            loaded,
            description=describe_model(loaded),
            per_family=per_family,
            difficulties=levels,
            progress=lambda done, total: advance(done),
        )
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        rows = out.with_suffix(".samples.jsonl")
        rows.write_text("".join(json.dumps(s) + "\n" for s in samples), encoding="utf-8")
        note(f"wrote {out} and {rows}")
    return summary
