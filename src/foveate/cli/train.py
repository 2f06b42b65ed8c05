"""`foveate train`: its commands; and `nano`: train the embedded model from nothing, resumable, with a plot."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli.progress import progress_bar
from foveate.cli.terminal import note
from foveate.cli.train_draft import draft
from foveate.cli.train_stream import stream
from foveate.cli.verbs import HELP_FLAGS

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, no_args_is_help=True, context_settings=HELP_FLAGS
)


@app.callback()
def root() -> None:
    """Train models on the world."""


app.command()(draft)
app.command()(stream)


@app.command()
def nano(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; an unfinished one is resumed.")],
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Optimiser steps in all.")] = None,
    start_from: Annotated[
        Path | None,
        typer.Option("--from", help="Begin with the weights of an exported model instead of nothing."),
    ] = None,
    tower_steps: Annotated[
        int | None, typer.Option("--tower-steps", min=0, help="Of these, on dense labels alone.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Pictures per step.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option("--threads", min=0, help="CPU threads; 0 = one per core.")] = 0,
    compile_: Annotated[
        bool, typer.Option("--compile/--no-compile", help="Fuse kernels; needs a C++ compiler on a CPU.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines on stdout instead of a progress bar.")
    ] = False,
) -> None:
    """Train fovea-nano and export it as a Hugging Face LLaVA folder (OUT/model), with OUT/training.png."""
    import torch

    from foveate.errors import FoveateError
    from foveate.train.nano.loop import NanoTrainer, NanoTraining
    from foveate.train.nano.plot import plot_training

    if start_from is not None and not (start_from / "model.safetensors").is_file():
        raise FoveateError(
            f"No model.safetensors in {start_from}", fix="Name a folder that training exported."
        )
    torch.set_num_threads(threads or os.cpu_count() or 1)
    chosen = {"steps": steps, "tower_steps": tower_steps, "batch_size": batch_size}
    asked: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    settings = replace(NanoTraining(compile=compile_), **asked)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    with progress_bar("steps", settings.steps) as advance:

        def report(row: dict[str, Any]) -> None:
            if as_json:
                print(json.dumps(row), flush=True)
            elif "validation" in row:
                scores = ", ".join(f"{k} {v:.0%}" for k, v in row["validation"].items())
                note(f"step {row['step']}: {scores}")
            advance(row["step"])

        trainer = NanoTrainer(settings, out, device=device, start_from=start_from, report=report)
        if trainer.step and not as_json:
            note(f"resuming {out} at step {trainer.step} of {settings.steps}")
        folder = trainer.run()
    picture = plot_training(out / "log.jsonl", out / "training.png")
    if as_json:
        print(json.dumps({"model": str(folder), "plot": str(picture)}))
    else:
        print(f"{folder} (try: foveate chat {folder} examples/shapes.png 'How many objects are there?')")
        note(f"loss and accuracy: {picture}")
