"""Writes a split of a data set as JSON lines that `foveate eval` reads, pictures as base64 in their columns.

    pip install datasets
    python examples/export_dataset.py jihyoung/AQuA test test.jsonl
    python examples/export_dataset.py MMMU/MMMU validation art.jsonl --name Art

`datasets`' own `to_json` cannot write columns of pictures. The files' bytes are kept as they are: nothing is encoded
again, so the pixels stay the published ones.
"""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """The value with bytes as base64; a picture that is a file of its own is read."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, dict):
        if set(value) == {"bytes", "path"} and value["bytes"] is None and value["path"]:
            return plain({**value, "bytes": Path(value["path"]).read_bytes()})
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def main() -> None:
    """Exports what the command line names."""
    from datasets import load_dataset

    parser = argparse.ArgumentParser(description="Write a split of a data set as JSON lines.")
    parser.add_argument("data", help="organisation/name, or the name of a loader such as parquet")
    parser.add_argument("split")
    parser.add_argument("output", type=Path)
    parser.add_argument("--name", help="configuration, where the data set has several")
    parser.add_argument("--files", help="the loader's files, where data is one")
    asked = parser.parse_args()
    rows = load_dataset(asked.data, asked.name, split=asked.split, data_files=asked.files)
    with asked.output.open("w", encoding="utf-8") as output:
        # As stored: a row that is not decoded keeps its pictures' bytes.
        for row in rows.with_format("arrow"):
            (values,) = row.to_pylist()
            output.write(json.dumps(plain(values), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
