"""`foveate world sample`: write pictures with questions and exact answers. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.failures import as_dict
from foveate.cli.progress import progress_bar
from foveate.cli.terminal import note
from foveate.cli.verbs import HELP_FLAGS

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, no_args_is_help=True, context_settings=HELP_FLAGS
)


@app.callback()
def root() -> None:
    """A procedural world: scenes, pictures and questions whose answers are exact."""


@app.command()
def sample(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for images/, SPLIT.jsonl and contact_sheet.png.")
    ],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of scenes.")] = 100,
    domain: Annotated[str, typer.Option("--domain", help="shapes, page or aerial.")] = "shapes",
    split: Annotated[
        str, typer.Option("--split", help="train, validation or test: disjoint seeds.")
    ] = "train",
    start: Annotated[int, typer.Option("--start", min=0, help="Index of the first scene.")] = 0,
    size: Annotated[
        int, typer.Option("--size", min=32, max=4096, help="Height of the pictures in pixels.")
    ] = 168,
    questions: Annotated[int, typer.Option("--questions", min=1, max=50, help="Dialogues per scene.")] = 2,
    difficulty: Annotated[int, typer.Option("--difficulty", min=1, max=3, help="1 easy to 3 hard.")] = 2,
    families: Annotated[
        str | None, typer.Option("--families", help="Only these question families, comma separated.")
    ] = None,
    svg: Annotated[bool, typer.Option("--svg", help="Also write each scene as SVG.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON summary on stdout.")] = False,
) -> None:
    """Sample scenes with questions; the same arguments give the same bytes."""
    from foveate.world import write_dataset

    chosen = [name.strip() for name in families.split(",")] if families else None
    with progress_bar("scenes", count) as advance:
        dialogues = write_dataset(
            out,
            domain=domain,
            split=split,
            count=count,
            start=start,
            size=size,
            questions=questions,
            difficulty=difficulty,
            families=chosen,
            svg=svg,
            progress=advance,
        )
    summary = {
        "folder": str(out),
        "data": str(out / f"{split}.jsonl"),
        "contact_sheet": str(out / "contact_sheet.png"),
        "scenes": count,
        "dialogues": dialogues,
    }
    if as_json:
        print(as_dict(summary))
    else:
        print(f"{count} scenes, {dialogues} dialogues: {summary['data']}")
        note(f"look at {summary['contact_sheet']} before training on it")
