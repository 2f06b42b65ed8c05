"""Measures cells: every question of a run through the engine, one at a time, in an engine of the cell's own.

Owns what is asked and what is noted of an answer. Cells share the questions, so they can be compared item by item;
they share no cache, so none profits from another. Knows no statistics.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from foveate.errors import FoveateError
from foveate.evaluate.bench.asking import Asking
from foveate.evaluate.bench.folder import RunFolder
from foveate.evaluate.bench.grid import DOWNSAMPLE, FULL, NO_IMAGE, BenchError, Grid
from foveate.evaluate.bench.items import make_items
from foveate.evaluate.provenance import commit, describe_model, versions
from foveate.evaluate.run_files import RUN
from foveate.reduce.registry import get_reducer

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

Progress = Callable[[int, int], None]


def choose_clock(model: VisionLanguageModel) -> tuple[Callable[[], float], str]:
    """Seconds to measure by, and what they are.

    One thread on a CPU is measured by its processor time: what the wall clock shows on a machine that does nothing
    else, whatever else it does.
    """
    if model.device.type == "cpu" and torch.get_num_threads() == 1:
        return time.process_time, "processor time of one thread"
    return time.perf_counter, "wall clock"


def begin(
    model: VisionLanguageModel, grid: Grid, path: Path, *, machine: dict[str, Any], command: str, resume: bool
) -> RunFolder:
    """A new run of this grid; with `resume` the one in the folder, if it holds any.

    Raises:
        BenchError: the folder holds a run and `resume` is not set, or it holds another run.
    """
    try:
        get_reducer(DOWNSAMPLE).check(model)
        stands_in = ""
    except FoveateError as error:
        grid, stands_in = grid.with_stand_in(), str(error)
    run = {
        "command": command,
        "model": {**describe_model(model), "language_parameters": _language_parameters(model)},
        "grid": asdict(grid),
        "stands_in": stands_in,  # why the downsampling baseline is pooled features, or ""
        "clock": choose_clock(model)[1],
        "threads": torch.get_num_threads(),
        "cropped": bool(getattr(model.image_processor, "do_center_crop", False)),
        "commits": [commit()],
        "versions": versions(),
        "machine": machine,
    }
    if resume and (path / RUN).is_file():
        return _again(RunFolder.open(path, to_go_on=True), run)
    return RunFolder.create(path, run, make_items(grid))


def _language_parameters(model: VisionLanguageModel) -> int:
    """What a token passes through: all parameters but those of the tower and the projector."""
    named = model.hf_model.named_parameters()
    outside = sum(p.numel() for name, p in named if "language_model" not in name and "lm_head" not in name)
    return model.parameter_count - outside


def _again(folder: RunFolder, run: dict[str, Any]) -> RunFolder:
    """The folder, if it holds a run of this very grid, model and clock: numbers of others do not mix."""
    kept = {**folder.run["grid"], **_conditions(folder.run)}
    asked = {**json.loads(json.dumps(run["grid"])), **_conditions(run)}
    different = [
        f"{name} {kept[name]} there, {asked[name]} here" for name in asked if kept[name] != asked[name]
    ]
    if different:
        raise BenchError(
            f"The run in {folder.path} is another one",
            why="; ".join(different),
            fix="Ask for the same to go on with it, or name another --output.",
        )
    (now,) = run["commits"]
    if now not in folder.run["commits"]:
        folder.run["commits"].append(now)
        folder.save_run()
    return folder


def _conditions(run: Mapping[str, Any]) -> dict[str, Any]:
    model = run["model"]
    facts = {name: model[name] for name in ("weights_sha256", "dtype", "quantisation", "device")}
    return {**facts, "clock": run["clock"], "threads": run["threads"]}


def run_cells(
    model: VisionLanguageModel,
    folder: RunFolder,
    *,
    clock: Callable[[], float] | None = None,
    progress: Progress = lambda done, total: None,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Measures what is not in the folder yet.

    Args:
        clock: seconds; `choose_clock` by default.
        progress: told how many answers there are, of how many.
        tell: told a line for each cell as it ends.

    Raises:
        BenchError: full tokens are refused: there is nothing to compare with.
    """
    clock = choose_clock(model)[0] if clock is None else clock
    pictures = _pictures(folder)
    cells, done = folder.grid.cells, 0
    for number, cell in enumerate(cells, start=1):
        missing = [item for item in folder.items.values() if (cell.name, item.id) not in folder.samples]
        done += len(folder.items) - len(missing)
        state = "measured" if missing else "kept"
        if missing and cell.name not in folder.refused:
            asking = Asking(model, cell, clock)
            try:
                for item in missing:
                    folder.add(cell.name, item.id, asking.ask(item, pictures[item.id], folder))
                    done += 1
                    progress(done, len(cells) * len(folder.items))
            except FoveateError as error:
                if cell.method in (FULL, NO_IMAGE):
                    raise
                folder.refuse(cell.name, str(error))
        if cell.name in folder.refused:
            state = "refused"
        tell(f"{number} of {len(cells)}: {cell.name}, {state}")


def _pictures(folder: RunFolder) -> dict[str, Image.Image]:
    """By item, made again from the world."""
    made = {name: item.image() for name, item in folder.items.items()}
    pictures = {name: picture for name, picture in made.items() if picture is not None}
    if len(pictures) < len(made):
        raise BenchError(
            f"{len(made) - len(pictures)} pictures of the run in {folder.path} are drawn otherwise now",
            why="the world has changed since the run began",
            fix="Begin a new run in another --output.",
        )
    return pictures
