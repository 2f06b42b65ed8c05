"""A run's folder: what was measured, with what, and every answer; appended as it comes, so that a run can go on.

run.json        grid, model, versions, machine, refused cells, layouts of pictures
items.jsonl     the questions with their answers
samples.jsonl   one line per cell, item and turn; may be packed as samples.jsonl.gz once the run is over
speed.jsonl     one line per cell and concurrency
Owns these four files. Knows no model and no scoring; report.py writes what is made from them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from foveate.evaluate.bench.grid import BenchError, Grid
from foveate.evaluate.bench.items import Item
from foveate.evaluate.provenance import write_atomically

RUN, ITEMS, SAMPLES, SPEED = "run.json", "items.jsonl", "samples.jsonl", "speed.jsonl"
FORMAT = 1
Row = dict[str, Any]


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
        if (path / RUN).exists():
            raise BenchError(
                f"{path} holds a run already", fix="Go on with it by --resume, or name another --output."
            )
        folder = cls(path, {"format": FORMAT, **run, "refused": {}, "equal_tiles": [], "layouts": []}, items)
        lines = [json.dumps(item.to_dict(), ensure_ascii=False) for item in folder.items.values()]
        write_atomically(path / ITEMS, "\n".join(lines) + "\n")
        folder.save_run()
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """A run that was begun.

        Raises:
            BenchError: there is none, or its files cannot be read.
        """
        if not (path / RUN).is_file():
            raise BenchError(
                f"{path} holds no run of foveate bench",
                why=f"there is no {RUN}",
                fix="Name the run's folder.",
            )
        try:
            run = json.loads((path / RUN).read_text(encoding="utf-8"))
            if run["format"] != FORMAT:
                raise BenchError(f"{path / RUN} has the format {run['format']}", why=f"{FORMAT} is read here")
            items = [Item.from_dict(row) for row in _lines(path / ITEMS)]
            folder = cls(path, run, items)
            folder._read_samples()
            folder.speed = {(row["cell"], row["concurrency"]): row for row in _lines(path / SPEED)}
        except (ValueError, KeyError, TypeError) as error:
            raise BenchError(
                f"The run in {path} cannot be read", why=repr(error), fix="Measure it again elsewhere."
            ) from error
        return folder

    def _read_samples(self) -> None:
        """Items whose last turn was not kept are left out; of a turn that is there twice, the later one counts."""
        found: dict[tuple[str, str], dict[int, Row]] = {}
        for row in _lines(self.path / SAMPLES):
            found.setdefault((row["cell"], row["item"]), {})[row["turn"]] = row
        for (cell, item), turns in found.items():
            if len(turns) == len(self.items[item].turns):
                self.samples[cell, item] = [turns[number] for number in sorted(turns)]

    def save_run(self) -> None:
        """Writes run.json."""
        write_atomically(self.path / RUN, json.dumps(self.run, indent=1, ensure_ascii=False) + "\n")

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


def _append(path: Path, rows: Iterable[Row]) -> None:
    packed = path.with_name(path.name + ".gz")
    if packed.is_file() and not path.is_file():  # a run that goes on after it was packed
        path.write_bytes(gzip.decompress(packed.read_bytes()))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with path.open("a", encoding="utf-8") as out:
        out.write(text)


def _lines(path: Path) -> list[Row]:
    """Rows of a file of lines, packed or not; none where there is no file.

    A run that was killed may have left half a line at the end: it is cut off, and what it told is measured again.
    """
    packed = path.with_name(path.name + ".gz")
    if not path.is_file():
        if not packed.is_file():
            return []
        return [json.loads(line) for line in gzip.decompress(packed.read_bytes()).decode().splitlines()]
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        path.write_bytes(whole)
    return [json.loads(line) for line in whole.decode().splitlines()]
