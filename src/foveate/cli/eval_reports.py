"""`foveate eval compare`, `report` and `export`: verbs on run folders that are there; no model is loaded.

Owns flags and what is printed. `foveate.cli.eval` adds them to its verbs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli.failures import as_dict
from foveate.cli.terminal import note, table
from foveate.errors import FoveateError, nearest

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
NOTED = 4  # tasks whose power note is printed
FORMATS = ("lmms-eval", "coco")


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Folders of two runs or more.")],
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also runs that asked differently; the result says what differs.")
    ] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write the comparison as a page.")] = None,
    as_json: Json = False,
) -> None:
    """Which run is better, task by task: paired on the items that all answered, corrected for how many tests."""
    from foveate.evaluate.run import compare as comparing
    from foveate.evaluate.run import tables

    result = comparing.compare(runs, anyway=anyway)
    if html is not None:
        from foveate.evaluate.provenance import write_atomically
        from foveate.evaluate.run.compare_report import page

        write_atomically(html, page(result))
    if as_json:
        print(as_dict(result))
        return
    for line in result["differences"]:
        note(f"asked differently: {line}")
    for line in tables.unfinished_runs(result):
        note(line)
    print(table(*tables.comparison(result)))
    if result["ties"]:
        print()
        print(table(*tables.ties(result)))
    if result["rankings"]:
        print()
        print(table(*tables.rankings(result)))
    for line in tables.left_out(result):
        note(line)
    if html is not None:
        note(f"wrote {html}")


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")], as_json: Json = False
) -> None:
    """Write a run's summary.json and report.html again from its answers."""
    from foveate.evaluate.run.report import REPORT, write_report

    print_summary(write_report(run), as_json=as_json)
    note(f"wrote {run / REPORT}")


def print_summary(summary: dict[str, Any], *, as_json: bool) -> None:
    """The score table, and below it what one must know to read it."""
    from foveate.evaluate.run import tables

    if as_json:
        print(as_dict(summary))
        return
    print(table(*tables.overview(summary)))
    for record in summary["perturbations"]:
        print(f"\n{record['task']}, {record.get('missing') or 'by axis'}")
        if "axes" in record:
            print(table(*tables.axes(record)))
    for line in tables.unfinished(summary["unfinished"]):
        note(line)
    if summary["sample"]:
        note(f"this is {summary['sample']}")
    noted = [row for row in summary["results"] if row.get("note") and row["variant"] == "baseline"]
    for row in noted[:NOTED]:
        note(f"{row['task']}: {row['note']}")
    if len(noted) > NOTED:
        note(f"the report says what the size of the other {len(noted) - NOTED} tasks can show")


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.")],
    kind: Annotated[
        str,
        typer.Option(
            "--format",
            help="lmms-eval: its samples and results files; coco: boxes and outlines, true and found.",
        ),
    ] = "lmms-eval",
) -> None:
    """Write a run in another kit's format."""
    if kind not in FORMATS:
        raise FoveateError(f"There is no format {kind!r}", fix=nearest(kind, FORMATS))
    from foveate.evaluate.run.export import export_lmms_eval
    from foveate.evaluate.run.export_coco import export_coco

    for path in (export_coco if kind == "coco" else export_lmms_eval)(run, output):
        note(f"wrote {path}")


def add_to(app: typer.Typer) -> None:
    """Adds these verbs to those of `foveate eval`."""
    app.command("compare")(compare)
    app.command("report")(report)
    app.command("export")(export)
