"""`foveate eval`: tasks asked of any model, with intervals, and reports of what came back.

Owns the verbs that need no model; `run` is in `eval_run`, those on finished runs are in `eval_reports`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli import eval_reports
from foveate.cli.eval_run import run
from foveate.cli.failures import as_dict
from foveate.cli.terminal import note, table
from foveate.cli.verbs import HELP_FLAGS

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, no_args_is_help=True, context_settings=HELP_FLAGS
)
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


@app.callback()
def root() -> None:
    """Evaluation: tasks, any model in process or behind an API, intervals, comparisons and reports."""


@app.command()
def tasks(as_json: Json = False) -> None:
    """The tasks, with their papers, data and settings."""
    from foveate.evaluate.listing import task_records

    records = task_records()
    if as_json:
        print(as_dict(records))
        return
    rows = [[one["name"], one["title"], one["metric"], one["licence"]] for one in records]
    print(table(("task", "what is asked", "score", "licence of the public data"), rows))
    note("without public data (--set TASK.data=PATH) a task asks about the embedded world")
    note("--json tells papers, sources and settings too")


app.command("run")(run)


@app.command()
def score(
    place: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")], as_json: Json = False
) -> None:
    """Score a run's replies again without the model, and write its summary and report anew."""
    from foveate.evaluate.run.folder import RunFolder
    from foveate.evaluate.run.report import REPORT, write_report
    from foveate.evaluate.run.rescoring import rescore

    folder = RunFolder.open(place)
    result = rescore(folder)
    eval_reports.print_summary(write_report(folder), as_json=as_json)
    note(f"replies scored: {result.replies}, changed: {len(result.changed)}")
    for task, variant, item in result.changed[:10]:
        note(f"changed: {task} {variant} {item}")
    note(f"wrote {place / REPORT}")


eval_reports.add_to(app)
