"""`foveate train stream`: teach a model to comment on streams; resumable, with a log.

Owns the flags and the lines that are printed. The recipe is `foveate.train.stream`'s.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli.progress import progress_bar
from foveate.cli.terminal import note


def stream(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; an unfinished one is resumed.")],
    start_from: Annotated[
        str | None, typer.Option("--from", metavar="REF", help="Model to begin with; else fovea-nano.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Optimiser steps in all.")] = None,
    streams: Annotated[int | None, typer.Option("--streams", min=1, help="Streams to learn from.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Chunks per step.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", min=0.0, help="Peak of Muon's and AdamW's.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of chunks and their order.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option("--threads", min=0, help="CPU threads; 0 = one per core.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines on stdout instead of a progress bar.")
    ] = False,
) -> None:
    """Train a model on moving scenes: OUT/model is a whole checkpoint, OUT/difference what differs from --from.

    foveate train stream --out runs/stream
    """
    import torch

    from foveate.train.stream.loop import StreamTrainer, StreamTraining

    torch.set_num_threads(threads or os.cpu_count() or 1)
    chosen: dict[str, Any] = {
        "steps": steps,
        "streams": streams,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    settings = replace(
        StreamTraining(), **{name: value for name, value in chosen.items() if value is not None}
    )

    def report(row: dict[str, Any]) -> None:
        if as_json:
            print(json.dumps(row), flush=True)
        elif "validation" in row:
            scores = ", ".join(f"{kind} {share:.0%}" for kind, share in row["validation"].items())
            note(f"step {row['step']}: {scores}")

    trainer = StreamTrainer(settings, out, start_from=start_from, device=device, report=report)
    with progress_bar("streams seen", settings.streams + settings.validation_streams) as advance:
        trainer.see(advance)
    if trainer.step and not as_json:
        note(f"resuming {out} at step {trainer.step} of {settings.steps}")
    with progress_bar("steps", settings.steps) as advance:
        folder = trainer.run(advance)
    if as_json:
        print(json.dumps({"model": str(folder), "difference": str(out / "difference")}))
    else:
        print(f"{folder} (try: foveate stream VIDEO -m {folder} --system 'Watch the red objects.')")
