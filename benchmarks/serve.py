"""The server against the bare engine, `transformers serve` and vLLM's server: ratios with their spread.

Run: python benchmarks/serve.py --json           (benchmarks/README.md says what is measured, and how long it takes)
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import machine
import models
from engine_parts.ledger import Ledger, say
from foveate.errors import FoveateError
from serve_parts.bench import FULL, PARTS, QUICK, Bench
from serve_parts.servers import parse_peers

OUTPUT = machine.RESULTS / "serve.json"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the figures of this run as JSON")
    parser.add_argument("--quick", action="store_true", help="a smoke test: few, short requests")
    parser.add_argument("--repetitions", type=int, help=f"of everything; default {FULL.repetitions}")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="this part; may be repeated")
    parser.add_argument(
        "--model",
        action="append",
        help="fovea-nano, smolvlm, llava or a folder; repeatable; default: the first two",
    )
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--peer", action="append", default=[], metavar="NAME=PYTHON", help="transformers or vllm"
    )
    parser.add_argument("--output", type=Path, help=f"default: {OUTPUT.relative_to(OUTPUT.parents[2])}")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was broken off")
    return parser.parse_args(arguments)


def save(path: Path, options: argparse.Namespace, command: str, model: str, part: str, figures: Any) -> None:
    """Puts one part's figures into the result file; those of other parts, models and dtypes stay."""
    document = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": {}}
    about = {**machine.describe(), "threads": options.threads, "command": command}
    rows = document["rows"].setdefault(Path(model).name, {}).setdefault(options.dtype, {})
    rows[part] = {**figures, "measured": about}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def run(options: argparse.Namespace, command: str) -> dict[str, dict[str, Any]]:
    """Figures by model and part. Each part is in the result file as soon as it is measured."""
    torch.set_num_threads(options.threads)
    size = QUICK if options.quick else FULL
    if options.repetitions:
        size = replace(size, repetitions=options.repetitions)
    output = options.output or (None if options.quick else OUTPUT)
    pythons = parse_peers(options.peer)
    results: dict[str, dict[str, Any]] = {}
    for model in options.model or ("fovea-nano", "smolvlm"):
        file = models.default_folder() / f"serve-{Path(model).name}-{options.dtype}.partial.json"
        if not options.resume:
            file.unlink(missing_ok=True)
        settings = {"model": model, "dtype": options.dtype, "threads": options.threads, "size": str(size)}
        ledger = Ledger(file, {**settings, "commit": machine.describe()["commit"]})
        bench = Bench(model, options.dtype, options.threads, size, pythons, ledger)
        try:
            for part in options.only or PARTS:
                say(f"-- {Path(model).name}: {part}")
                figures = PARTS[part](bench)
                results.setdefault(Path(model).name, {})[part] = figures
                if output is not None:
                    save(output, options, command, model, part, figures)
        finally:
            bench.close()
        ledger.close()
    return results


def _stop(number: int, frame: object) -> None:
    """Leaves through every `finally`: servers in sessions of their own would stay behind."""
    sys.exit(128 + number)


def main() -> int:
    options = parse(sys.argv[1:])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    public = [re.sub(r"/\S*/", "", text) for text in sys.argv[1:]]  # without this machine's folders
    try:
        results = run(options, " ".join(["python benchmarks/serve.py", *public]))
    except FoveateError as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(results, indent=1))
    else:
        for model, parts in results.items():
            for part, figures in parts.items():
                short = figures.get("ratios") or figures.get("difference_milliseconds")
                print(model, part, json.dumps(short))
    return 0


if __name__ == "__main__":
    sys.exit(main())
