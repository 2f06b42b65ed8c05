"""The engine against plain transformers, static batching, bare loops, vLLM and OpenVINO: ratios with their spread.

Run: python benchmarks/engine.py --json          (benchmarks/README.md says what is measured, and how long it takes)
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import machine
import models
from engine_parts import peers
from engine_parts.bench import FULL, PARTS, QUICK, Bench
from engine_parts.ledger import Ledger, say
from foveate.errors import FoveateError

OUTPUT = machine.RESULTS / "engine.json"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the figures of this run as JSON")
    parser.add_argument("--quick", action="store_true", help="a smoke test: few, short requests")
    parser.add_argument("--repetitions", type=int, help=f"of everything; default {FULL.repetitions}")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="this part; may be repeated")
    parser.add_argument("--model", default="smolvlm", help="smolvlm, llava, fovea-nano or a folder")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON", help="vllm or openvino")
    parser.add_argument("--output", type=Path, help=f"default: {OUTPUT.relative_to(OUTPUT.parents[2])}")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was broken off")
    return parser.parse_args(arguments)


def save(path: Path, options: argparse.Namespace, command: str, part: str, figures: Any) -> None:
    """Puts one part's figures into the result file; those of other parts, models and dtypes stay."""
    document = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": {}}
    measured = figures if isinstance(figures, dict) else {"not_measured": figures}
    about = {**machine.describe(), "threads": options.threads, "command": command}
    rows = document["rows"].setdefault(Path(options.model).name, {}).setdefault(options.dtype, {})
    rows[part] = {**measured, "measured": about}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def run(options: argparse.Namespace, command: str) -> dict[str, Any]:
    """Figures by part. Each part is in the result file as soon as it is measured."""
    torch.set_num_threads(options.threads)
    name = f"engine-{Path(options.model).name}-{options.dtype}.partial.json"
    ledger_file = models.default_folder() / name
    if not options.resume:
        ledger_file.unlink(missing_ok=True)
    settings = {"model": options.model, "dtype": options.dtype, "threads": options.threads}
    pythons = peers.parse(options.peer)
    size = QUICK if options.quick else FULL
    if options.repetitions:
        size = replace(size, repetitions=options.repetitions, decode_repetitions=options.repetitions)
    ledger = Ledger(ledger_file, {**settings, "size": str(size), "commit": machine.describe()["commit"]})
    bench = Bench(options.model, options.dtype, options.threads, size, pythons, ledger)
    output = options.output or (None if options.quick else OUTPUT)
    results: dict[str, Any] = {}
    try:
        for part in options.only or PARTS:
            say(f"-- {part}")
            results[part] = PARTS[part](bench)
            if output is not None:
                save(output, options, command, part, results[part])
    finally:
        bench.close()
    ledger.close()
    return results


def main() -> int:
    options = parse(sys.argv[1:])
    try:
        results = run(options, " ".join(["python benchmarks/engine.py", *_public(sys.argv[1:])]))
    except FoveateError as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(results, indent=1))
    else:
        for part, figures in results.items():
            print(part, json.dumps(figures.get("ratios", figures) if isinstance(figures, dict) else figures))
    return 0


def _public(arguments: Sequence[str]) -> list[str]:
    """The command for the result file, without this machine's folders."""
    return [re.sub(r"/\S*/", "", text) for text in arguments]


if __name__ == "__main__":
    sys.exit(main())
