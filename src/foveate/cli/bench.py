"""`foveate bench`: which method, at which budget, costs how much accuracy and saves how much time.

Owns flags and what is printed. `foveate bench [MODEL]` measures; the other verbs work on its folder without a model.
Imports no torch until something is measured or drawn.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from foveate.cli.arguments import EMBEDDED_MODEL
from foveate.cli.bench_serve import serve
from foveate.cli.chat import DataType, Quantisation, load_model
from foveate.cli.failures import as_dict
from foveate.cli.progress import progress_bar
from foveate.cli.terminal import note, table
from foveate.cli.verbs import HELP_FLAGS

DEFAULT = "run"


class _RunByDefault(TyperGroup):
    """`foveate bench [MODEL] ...` means `foveate bench run [MODEL] ...`; alone it shows its verbs."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *HELP_FLAGS["help_option_names"]):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings=HELP_FLAGS,
)
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A run's folder.")]


@app.callback()
def root() -> None:
    """Visual-token reduction compared: methods and budgets on the same questions; `bench run --help` has the flags."""


app.command("serve")(serve)


@app.command(DEFAULT)
def run(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Folder or hub name; else fovea-nano.")
    ] = None,
    suite: Annotated[
        str, typer.Option("--suite", help="smoke: two minutes, direction only. full: every method.")
    ] = "smoke",
    methods: Annotated[
        str | None, typer.Option("--methods", help="Comma separated; else those of the suite.")
    ] = None,
    budgets: Annotated[
        str | None, typer.Option("--budgets", help="Such as 10%,25%,64; else those of the suite.")
    ] = None,
    families: Annotated[
        str | None, typer.Option("--families", help="Kinds of questions; else those of the suite.")
    ] = None,
    items: Annotated[
        int | None, typer.Option("--items", help="Questions of each kind, each on its own picture.")
    ] = None,
    turns: Annotated[
        int | None, typer.Option("--turns", help="2 follows up on questions that allow it.")
    ] = None,
    difficulty: Annotated[int, typer.Option("--difficulty", help="Of the pictures, 1 to 3.")] = 2,
    seed: Annotated[int, typer.Option("--seed", help="Which of the test pictures, 0 to 7.")] = 0,
    speed: Annotated[
        str | None,
        typer.Option("--speed", help="Also 1, 8 and 32 at once, in these cells: fastervlm@10%,..."),
    ] = None,
    dtype: Annotated[DataType, typer.Option("--dtype", help="Number format of the weights.")] = "auto",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    quantise: Annotated[
        Quantisation | None,
        typer.Option("--quantise", help="Keep the language model's weights in 8 or 4 bits."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run; else runs/bench-SUITE.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    as_json: Json = False,
) -> None:
    """Measure: each method at each budget, beside full tokens, no image, random tokens and a smaller picture."""
    from foveate.cli.machine import facts
    from foveate.evaluate.bench.grid import make_grid

    grid = make_grid(
        suite,
        methods=_words(methods),
        budgets=_words(budgets),
        families=_words(families),
        items=items,
        turns=turns,
        difficulty=difficulty,
        seed=seed,
    )
    from foveate.evaluate.bench.report import require_plots, write_report
    from foveate.evaluate.bench.runner import begin, choose_clock, run_cells
    from foveate.evaluate.bench.speed import cells_named, run_speed

    require_plots()
    place = Path("runs") / f"bench-{suite}" if output is None else output
    asked = {
        "suite": suite,
        "methods": methods,
        "budgets": budgets,
        "families": families,
        "items": items,
        "turns": turns,
        "difficulty": difficulty,
        "seed": seed,
        "speed": speed,
        "dtype": dtype,
        "device": device,
        "quantise": quantise,
    }
    loaded = load_model(model or EMBEDDED_MODEL, dtype=dtype, device=device, quantise=quantise)
    folder = begin(
        loaded,
        grid,
        place,
        machine=facts(),
        command=_command(model, asked),
        resume=resume,
    )
    fast = [] if speed is None else cells_named(folder, _words(speed))
    with progress_bar("questions", len(folder.grid.cells) * len(folder.items)) as advance:
        run_cells(loaded, folder, progress=lambda done, total: advance(done), tell=_tell)
    run_speed(loaded, folder, fast, clock=choose_clock(loaded)[0], tell=note)
    _print(write_report(folder), folder.path, as_json)


@app.command()
def report(place: Folder, as_json: Json = False) -> None:
    """Score a run's answers again and write its summary, plots and report; no model is loaded."""
    from foveate.evaluate.bench.folder import RunFolder
    from foveate.evaluate.bench.report import require_plots, write_report

    require_plots()
    folder = RunFolder.open(place)
    _print(write_report(folder), folder.path, as_json)


@app.command()
def plan(
    places: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders of runs: one, or several models' runs.")
    ],
    compute: Annotated[
        float | None,
        typer.Option("--compute", min=0, help="Billions of operations a question may cost to prefill."),
    ] = None,
    margin: Annotated[
        float, typer.Option("--margin", min=0, max=100, help="Without --compute: points that may be lost.")
    ] = 5.0,
    method: Annotated[
        str | None, typer.Option("--method", help="Else the one with the most right answers.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Recommend a visual budget, and a model where several were measured, from what runs have found."""
    from foveate.evaluate.bench.folder import RunFolder
    from foveate.evaluate.bench.planning import plan as recommend
    from foveate.evaluate.bench.tables import plan_rows

    found = recommend(
        [RunFolder.open(place) for place in places], compute=compute, margin=margin / 100, method=method
    )
    if as_json:
        print(as_dict(found))
        return
    print(table(*plan_rows(found)))
    best = found["recommended"]
    print(f"\nTake {best['cell']} of {best['model']}: {found['reason']}.")
    law = found["law"]
    if isinstance(law, str):
        note(f"the scaling law was {law}")
    else:
        note(
            f"error = {law['scale']:.3g} N^-{law['alpha']:.3f} T^-{law['beta']:.3f} + {law['floor']:.3g}, "
            f"N in billions, T all tokens; off by {100 * law['rmse']:.1f} points"
        )


def _command(model: str | None, asked: Mapping[str, object]) -> str:
    """What to type for the same run; of a model's folder the name alone, for the command is published."""
    named = [] if model is None else [Path(model).name if Path(model).is_dir() else model]
    given = [(f"--{name}", str(value)) for name, value in asked.items() if value not in (None, "auto")]
    return shlex.join(["foveate", "bench", *named, *(word for pair in given for word in pair)])


def _words(text: str | None) -> list[str]:
    return [] if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _tell(line: str) -> None:
    """A line for each cell, where no bar shows the progress."""
    if not sys.stderr.isatty():
        note(line)


def _print(summary: dict[str, Any], place: Path, as_json: bool) -> None:
    if as_json:
        print(as_dict(summary))
        return
    from foveate.evaluate.bench.tables import overview

    print(table(*overview(summary)))
    for cell, reason in summary["refused"].items():
        note(f"refused: {cell}: {reason}")
    if summary["unfinished"]:
        note(f"not measured to the end: {', '.join(summary['unfinished'])}")
    note(summary["note"])
    note(f"wrote {place / 'report.html'}")
