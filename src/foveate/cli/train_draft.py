"""`foveate train draft`: train a draft head for a target, the target in the loop; resumable, with a plot at the end."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli.arguments import EMBEDDED_MODEL
from foveate.cli.progress import progress_bar
from foveate.cli.terminal import note

if TYPE_CHECKING:
    from foveate.decode.heads.config import HeadConfig
    from foveate.models.base import VisionLanguageModel
    from foveate.train.draft.prompts import PromptSource


def draft(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="The target: fovea-nano, a folder or a hub name.")
    ] = EMBEDDED_MODEL,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the run; an unfinished one is resumed.")
    ] = Path("runs/draft"),
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="JSONL of prompts with pictures; else scenes of the world, new each time."
        ),
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option("--held-out", help="JSONL of prompts to validate on; needed with --data.")
    ] = None,
    kind: Annotated[str, typer.Option("--kind", help="eagle2 or eagle3.")] = "eagle2",
    compress: Annotated[
        str | None,
        typer.Option("--compress", help="Pictures shorter for the draft: pool:4, select, vispec, …"),
    ] = None,
    visual: Annotated[
        str | None, typer.Option("--visual", help="What the draft reads of pictures: full or text.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Optimiser steps in all.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Replies per step.")] = None,
    round_size: Annotated[
        int | None, typer.Option("--round-size", min=1, help="Replies the target is asked for together.")
    ] = None,
    reuse: Annotated[
        int | None, typer.Option("--reuse", min=1, help="How often a round's replies are learnt from.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", min=0.0, help="Peak of AdamW's.")
    ] = None,
    reply_tokens: Annotated[int | None, typer.Option("--reply-tokens", help="Longest reply.")] = None,
    stored: Annotated[
        int | None,
        typer.Option("--stored", min=1, help="Offline: so many replies, made once, again and again."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of weights and noise.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[
        str, typer.Option("--dtype", help="Of the target: auto, float32, bfloat16, float16.")
    ] = "auto",
    threads: Annotated[int, typer.Option("--threads", min=0, help="CPU threads; 0 = one per core.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines on stdout instead of a progress bar.")
    ] = False,
) -> None:
    """Train a draft head that guesses MODEL's tokens (OUT/head, for --speculate), with OUT/training.png."""
    import torch

    from foveate.models import load
    from foveate.train.draft.loop import DraftTrainer
    from foveate.train.draft.plot import plot_draft_training
    from foveate.train.draft.prompts import FilePrompts
    from foveate.train.draft.settings import DraftTraining, Objective

    chosen: dict[str, Any] = {
        "steps": steps,
        "batch_size": batch_size,
        "round_size": round_size,
        "reuse": reuse,
        "learning_rate": learning_rate,
        "reply_tokens": reply_tokens,
        "stored": stored,
        "seed": seed,
    }
    source, validation, tested = _prompts(data, held_out, seed or 0)
    asked = {name: value for name, value in chosen.items() if value is not None}
    settings = DraftTraining(objective=Objective.of_kind(kind), **asked)
    if isinstance(validation, FilePrompts):
        settings = replace(settings, validation_prompts=min(settings.validation_prompts, len(validation)))
    torch.set_num_threads(threads or os.cpu_count() or 1)
    target = load(model, device=device, dtype=dtype)
    config = _head(target, kind, compress, visual)
    with progress_bar("steps", settings.steps) as advance:

        def report(row: dict[str, Any]) -> None:
            if as_json:
                print(json.dumps(row), flush=True)
            elif "validation" in row:
                found = row["validation"]
                kinds = ", ".join(f"{name} {value:.2f}" for name, value in found["by_kind"].items())
                note(f"step {row['step']}: {found['accepted']:.2f} tokens a pass ({kinds})")
            advance(row["step"])

        trainer = DraftTrainer(
            target, config, settings, out, source=source, held_out=validation, tested=tested, report=report
        )
        if trainer.step and not as_json:
            note(f"resuming {out} at step {trainer.step} of {settings.steps}")
        folder = trainer.run()
    picture = plot_draft_training(out / "log.jsonl", out / "training.png")
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["rows"]
    if as_json:
        print(json.dumps({"head": str(folder), "plot": str(picture), "evaluation": found}))
    else:
        print(f"{folder} (try: foveate chat --speculate {folder} --model {model} …)")
        for row in (row for row in found if row["kind"] == "all"):
            length = f"{row['accepted_length']:.2f} tokens a pass"
            note(
                f"{row['draft']}, temperature {row['temperature']:g}: {length} over {row['prompts']} prompts"
            )
        note(f"losses and accepted length: {picture}")


def _prompts(
    data: Path | None, held_out: Path | None, seed: int
) -> tuple[PromptSource, PromptSource, PromptSource]:
    """To learn from, to validate on along the way, and to evaluate the finished head on.

    Raises:
        FoveateError: one of the two files without the other, or a file that holds no prompts.
    """
    from foveate.errors import FoveateError
    from foveate.train.draft.prompts import FilePrompts, WorldPrompts

    if (data is None) != (held_out is None):
        raise FoveateError(
            f"Only one of --data and --held-out is given ({data or held_out})",
            why="a head is validated on prompts that it has not seen",
            fix="Give two files of prompts, or neither.",
        )
    if data is None or held_out is None:
        return WorldPrompts(), WorldPrompts(split="validation", first=0), WorldPrompts(split="test", first=0)
    validation = FilePrompts(held_out, seed=seed)
    return FilePrompts(data, seed=seed), validation, validation


def _head(target: VisionLanguageModel, kind: str, compress: str | None, visual: str | None) -> HeadConfig:
    from foveate.decode.heads.config import CompressorConfig, HeadConfig

    compressor = CompressorConfig.parse(compress) if compress else None
    return HeadConfig.for_target(target, kind=kind, compressor=compressor, visual=visual)
