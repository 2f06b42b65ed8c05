"""Rows of data sets in the formats they are published in: JSON, JSONL, CSV and TSV, with pictures beside or inside.

A row that cannot be read becomes a `BrokenItem`, so that one bad line neither ends a run nor goes unseen. Parquet and
Arrow need packages that are not dependencies here: `examples/export_dataset.py` exports them. Knows no task.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from foveate.evaluate.contract import BrokenItem, EvaluationError, Item, Picture
from foveate.media import open_image

Row = dict[str, Any]
_KINDS = (".jsonl", ".json", ".csv", ".tsv")
_REST = "\0"  # no column is called that
_SHORTEST_ENCODED = 64  # characters; no picture is shorter in base64, and few file names are longer
_WRONG_KIND = (TypeError, OverflowError, LookupError, AttributeError)
# Columns of base64 pictures are longer than the csv module's own limit of 128 KiB.
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


def data_file(data: str, names: Sequence[str]) -> Path:
    """The file itself, or the first of `names` (patterns such as "*.tsv") that the folder has.

    Raises:
        EvaluationError: there is neither, or a kind that is not read here.
    """
    path = Path(data).expanduser()
    if path.is_dir():
        found = [file for name in names for file in sorted(path.glob(name)) if file.is_file()]
        if not found:
            raise EvaluationError(f"No {' or '.join(names)} in {path}", fix="Name the file itself.")
        path = found[0]
    if not path.is_file():
        raise EvaluationError(
            f"There is no data at {path}", fix="Name the data set's file, or the folder that holds it."
        )
    if path.suffix not in _KINDS:
        raise EvaluationError(
            f"{path.name} cannot be read",
            why=f"only {', '.join(_KINDS)} are",
            fix="Export it: python examples/export_dataset.py NAME SPLIT test.jsonl, of Foveate's sources.",
        )
    return path


def read_rows(path: Path, *, key: str | None = None) -> Iterator[tuple[str, Row | BrokenItem]]:
    """Every row with where it stands ("test.jsonl:12"), in the file's order.

    Args:
        key: of the list in a JSON object, where the file is one.

    Raises:
        EvaluationError: the whole file is not what its name says.
    """
    rows = _json_lines(path) if path.suffix == ".jsonl" else None
    if rows is None:
        rows = _json_list(path, key=key) if path.suffix == ".json" else _table(path)
    for number, row in rows:
        place = f"{path.name}:{number}"
        yield place, BrokenItem(id=place, reason=row) if isinstance(row, str) else row


def items_from(
    path: Path, make: Callable[[str, Row], Item | Iterable[Item]], *, key: str | None = None
) -> Iterator[Item | BrokenItem]:
    """An item of every row, or several; a row for which `make` raises is broken, and so is the second of one id.

    Args:
        make: of the row's place and the row; it says what is missing or wrong in a ValueError. What a value of an
            unforeseen kind makes it raise (a number where a list is due) is the row's fault too.
    """
    seen: Counter[str] = Counter()
    for place, row in read_rows(path, key=key):
        if isinstance(row, BrokenItem):
            yield row
            continue
        try:
            made = make(place, row)
            items = [made] if isinstance(made, Item) else list(made)
        except ValueError as error:
            yield BrokenItem(id=place, reason=str(error))
        except _WRONG_KIND as error:
            yield BrokenItem(id=place, reason=f"a value of the wrong kind: {error!r}")
        else:
            for item in items:
                seen[item.id] += 1
                yield item if seen[item.id] == 1 else _repeated(place, item.id, seen[item.id])


def _repeated(place: str, name: str, count: int) -> BrokenItem:
    """Replies are kept by id: the first row of an id is asked."""
    return BrokenItem(id=f"{place} (row {count} of the id {name})", reason=f"the id {name!r} is taken")


def column(row: Mapping[str, Any], *names: str) -> Any:
    """The first of these columns that the row has and that is not empty.

    Raises:
        ValueError: none, naming them; `items_from` makes a `BrokenItem` of it.
    """
    for name in names:
        value = row.get(name)
        if value is not None and value != "":
            return value
    raise ValueError(f"no {' or '.join(names)}")


def picture_from(value: Any, folder: Path) -> Picture:
    """A picture from a column: a path beside the file, a data: URI, base64, or `{"bytes": ..., "path": ...}`.

    The file is opened when the item is asked about; one that is missing then counts as failed. A picture in the
    column itself is named by a digest of it: names tell which questions share a picture and whether it has changed.

    Raises:
        ValueError: not any of these.
    """
    if isinstance(value, Mapping):
        encoded = value.get("bytes")
        return picture_from(encoded if encoded else value.get("path"), folder)
    if not isinstance(value, str) or not value:
        raise ValueError(f"a picture is a path or base64, not {type(value).__name__}")
    if value.startswith("data:"):
        return Picture(load=partial(_open, value), name=f"data: URI {_digest(value.encode())}")
    if len(value) > _SHORTEST_ENCODED and not (folder / value[:200]).exists():
        try:
            encoded = base64.b64decode(value, validate=True)
        except binascii.Error:
            pass  # a long path then
        else:
            return Picture(load=partial(_open, encoded), name=f"base64 {_digest(encoded)}")
    return Picture(load=partial(_open, str(folder / value)), name=value)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _open(source: str | bytes) -> Image.Image:
    return open_image(source).pil()


def _json_lines(path: Path) -> Iterator[tuple[int, Row | str]]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                yield number, f"not JSON: {error.msg}"
            else:
                yield number, row if isinstance(row, dict) else "not a JSON object"


def _json_list(path: Path, *, key: str | None) -> Iterator[tuple[int, Row | str]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except json.JSONDecodeError as error:
        # POPE and others publish JSON lines under the name .json.
        if error.msg == "Extra data" and error.lineno > 1:
            yield from _json_lines(path)
            return
        raise EvaluationError(f"{path.name} is not JSON", why=str(error)) from None
    if isinstance(data, dict) and key is not None:
        data = data.get(key)
    if isinstance(data, dict) and key is None:
        data = [data]
    if not isinstance(data, list):
        raise EvaluationError(f"{path.name} holds no list{f' {key!r}' if key else ''} of rows")
    for number, row in enumerate(data):
        yield number, row if isinstance(row, dict) else "not a JSON object"


def _table(path: Path) -> Iterator[tuple[int, Row | str]]:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        reader = csv.DictReader(lines, delimiter=delimiter, restkey=_REST)
        for row in reader:
            if _REST in row or None in row.values():
                wanted = len(reader.fieldnames or ())
                yield reader.line_num, f"not the {wanted} columns of the first line"
            else:
                yield reader.line_num, dict(row)
