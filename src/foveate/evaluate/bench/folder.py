"""A run's folder: what was measured, with what, and every answer; appended as it comes, so that a run can go on.

run.json        grid, model, versions, machine, refused cells, layouts of pictures
items.jsonl     the questions with their answers
samples.jsonl   one line per cell, item and turn; may be packed as samples.jsonl.gz once the run is over
speed.jsonl     one line per cell and concurrency
Owns these four files. Knows no model and no scoring; report.py writes what is made from them.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from foveate.evaluate import run_files
from foveate.evaluate.bench.grid import BenchError, Grid
from foveate.evaluate.bench.items import Item
from foveate.evaluate.provenance import write_atomically
from foveate.evaluate.run_files import Row

ITEMS, SAMPLES, SPEED = "items.jsonl", "samples.jsonl", "speed.jsonl"
FORMAT = 1


class RunFolder:
    """One run on disk.

    Attributes:
        run: what run.json holds.
        items: the run's questions by id, in order.
        samples: answers that are safe, by (cell, item): one row a turn.
        speed: rows of concurrent requests, by (cell, concurrency).
    """

    def __init__(self, path: Path, run: dict[str, Any], items: Iterable[Item]) -> None:
        self.path, self.run = path, run
        self.items = {item.id: item for item in items}
        self.samples: dict[tuple[str, str], list[Row]] = {}
        self.speed: dict[tuple[str, int], Row] = {}

    @property
    def grid(self) -> Grid:
        """What is measured."""
        return Grid.from_dict(self.run["grid"])

    @property
    def refused(self) -> dict[str, str]:
        """Cells that this model or the engine does not take, with the reason."""
        return self.run["refused"]

    @classmethod
    def create(cls, path: Path, run: Mapping[str, Any], items: Iterable[Item]) -> RunFolder:
        """A new run; the folder may exist, a run in it may not.

        Raises:
            BenchError: it holds a run already.
        """
        run_files.refuse_another(path, BenchError)
        folder = cls(path, {"format": FORMAT, **run, "refused": {}, "equal_tiles": [], "layouts": []}, items)
        lines = [run_files.line(item.to_dict()) for item in folder.items.values()]
        write_atomically(path / ITEMS, "".join(lines))
        folder.save_run()
        return folder

    @classmethod
    def open(cls, path: Path, *, to_go_on: bool = False) -> RunFolder:
        """A run that was begun. Its files are read and left as they are, for another process may be at work on them.

        Args:
            to_go_on: cuts off half a line that a killed run left at a file's end, so that lines can follow.

        Raises:
            BenchError: there is none, or its files cannot be read.
        """
        with run_files.opened(
            path, BenchError, verb="foveate bench", form=FORMAT, fix="Measure it again elsewhere."
        ) as run:
            folder = cls(path, run, [Item.from_dict(row) for row in _rows(path / ITEMS, cut=to_go_on)])
            folder._keep(_rows(path / SAMPLES, cut=to_go_on))
            speed = _rows(path / SPEED, cut=to_go_on)
            folder.speed = {(row["cell"], row["concurrency"]): row for row in speed}
        return folder

    def _keep(self, rows: Iterable[Row]) -> None:
        """Items whose last turn was not kept are left out; of a turn that is there twice, the later one counts."""
        found: dict[tuple[str, str], dict[int, Row]] = {}
        for row in rows:
            found.setdefault((row["cell"], row["item"]), {})[row["turn"]] = row
        for (cell, item), turns in found.items():
            if len(turns) == len(self.items[item].turns):
                self.samples[cell, item] = [turns[number] for number in sorted(turns)]

    def save_run(self) -> None:
        """Writes run.json."""
        run_files.save_run(self.path, self.run)

    def add(self, cell: str, item: str, rows: list[Row]) -> None:
        """Keeps an item's turns: together, so that a stopped run holds whole items only."""
        _append(self.path / SAMPLES, rows)
        self.samples[cell, item] = rows

    def add_speed(self, row: Row) -> None:
        """Keeps what one cell did at one concurrency."""
        _append(self.path / SPEED, [row])
        self.speed[row["cell"], row["concurrency"]] = row

    def refuse(self, cell: str, reason: str) -> None:
        """Notes that a cell cannot be measured."""
        self.refused[cell] = reason
        self.save_run()

    def share_tiles_equally(self, cell: str) -> None:
        """Notes that a cell shares tokens among tiles by their size, whatever its method does by default."""
        self.run["equal_tiles"].append(cell)
        self.save_run()

    def layout_number(self, layout: Row) -> int:
        """Where a picture's layout stands in run.json, which has it from now on."""
        layouts: list[Row] = self.run["layouts"]
        if layout not in layouts:
            layouts.append(layout)
            self.save_run()
        return layouts.index(layout)

    def complete(self, cell: str) -> bool:
        """Whether every item has its answers."""
        return all((cell, item) in self.samples for item in self.items)


def _append(file: Path, rows: Iterable[Row]) -> None:
    packed = _packed(file)
    if packed.is_file() and not file.is_file():  # a run that goes on after it was packed
        file.write_bytes(gzip.decompress(packed.read_bytes()))
    run_files.append(file, rows)


def _rows(file: Path, *, cut: bool) -> list[Row]:
    """Rows of a file of lines, packed or not; none where there is no file."""
    packed = _packed(file)
    if packed.is_file() and not file.is_file():
        return run_files.parse(gzip.decompress(packed.read_bytes()))
    return run_files.read(file, cut=cut)


def _packed(file: Path) -> Path:
    return file.with_name(file.name + ".gz")
