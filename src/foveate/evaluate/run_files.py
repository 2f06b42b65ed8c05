"""What the folder of any run has: run.json, which tells what was asked, and files of lines that grow as answers come.

Owns how they are begun, written and read, however a run ended. Knows no run's content; each kind of run has its own
folder class, format number and error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foveate.errors import FoveateError
from foveate.evaluate.provenance import write_atomically

RUN = "run.json"
Row = dict[str, Any]


def refuse_another(path: Path, error: type[FoveateError]) -> None:
    """Raises `error` where the folder holds a run already."""
    if (path / RUN).exists():
        raise error(f"{path} holds a run already", fix="Go on with it by --resume, or name another --output.")


@contextmanager
def opened(path: Path, error: type[FoveateError], *, verb: str, form: int, fix: str) -> Iterator[Row]:
    """What run.json holds; rows are read inside, so that a file of another content is told as this run's fault.

    Args:
        verb: the command whose run it is.
        form: the number of the format that is read.
        fix: what to do about a run that cannot be read.
    """
    file = path / RUN
    if not file.is_file():
        raise error(f"{path} holds no run of {verb}", why=f"there is no {RUN}", fix="Name the run's folder.")
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
        if run["format"] != form:
            raise error(f"{file} has the format {run['format']}", why=f"{form} is read here")
        yield run
    except (KeyError, TypeError, ValueError) as cause:
        raise error(f"The run in {path} cannot be read", why=repr(cause), fix=fix) from cause


def save_run(path: Path, run: Mapping[str, Any]) -> None:
    """Writes run.json, whole or not at all."""
    write_atomically(path / RUN, json.dumps(run, indent=1, ensure_ascii=False) + "\n")


def line(row: Mapping[str, Any]) -> str:
    """A row as its line."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def append(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows at a file's end, all by one call: a killed run keeps them all or cuts one short."""
    text = "".join(map(line, rows))
    with file.open("a", encoding="utf-8") as out:
        out.write(text)


def read(file: Path, *, cut: bool) -> list[Row]:
    """Rows of a file of lines; none where there is no file. Half a line at the end is no row: it is being written, or
    a killed run left it, and what it told is asked again.

    Args:
        cut: takes half a line out of the file, so that lines can follow. For the process that goes on with the run.
    """
    if not file.is_file():
        return []
    data = file.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if cut and len(whole) < len(data):
        file.write_bytes(whole)
    return parse(whole)


def parse(data: bytes) -> list[Row]:
    """Rows of lines as bytes: characters such as U+2028 in a reply would end lines of text."""
    return [json.loads(line) for line in data.splitlines()]
