"""`foveate bench serve URL`: load on any OpenAI-compatible server, and how it answers.

Owns flags and what is printed. Imports no torch.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli.failures import as_dict
from foveate.cli.progress import progress_bar
from foveate.cli.terminal import note, table
from foveate.errors import FoveateError, MissingExtraError

BUSY = 0.8  # share of a core from which on the generator itself may be what is measured


def serve(
    url: Annotated[str, typer.Argument(metavar="URL", help="Such as http://127.0.0.1:8000.")],
    model: Annotated[str | None, typer.Option("--model", help="Its name there; else the only one.")] = None,
    concurrency: Annotated[
        str, typer.Option("--concurrency", help="Requests at once, one level after another.")
    ] = "1,4,16",
    requests: Annotated[int, typer.Option("--requests", help="In each level.")] = 32,
    warmup: Annotated[int, typer.Option("--warmup", help="Before each level, not counted.")] = 2,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Longest answer.")] = 64,
    exact_tokens: Annotated[
        bool, typer.Option("--exact-tokens", help="Answers of exactly that length (ignore_eos, min_tokens).")
    ] = False,
    prompt_words: Annotated[int, typer.Option("--prompt-words", help="Of text in each request.")] = 16,
    pictures: Annotated[int, typer.Option("--pictures", help="In each request; 0 for text alone.")] = 1,
    repeat: Annotated[
        bool, typer.Option("--repeat", help="The same request every time, to measure caches.")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds without a byte.")] = 120.0,
    seed: Annotated[int, typer.Option("--seed", help="Of pictures and words.")] = 0,
    key_variable: Annotated[
        str, typer.Option("--key-variable", help="Environment variable with the API key.")
    ] = "OPENAI_API_KEY",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the figures as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw them (PNG, SVG or PDF).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Measure a running server: time to first token, time per token and throughput at each concurrency."""
    if importlib.util.find_spec("httpx2") is None:
        raise MissingExtraError("httpx2", "serve", "measuring a server")
    from foveate.evaluate.load import LoadSettings, measure
    from foveate.evaluate.load.plots import draw, require_plots

    settings = LoadSettings(
        url=url,
        model=model,
        concurrency=_levels(concurrency),
        requests=requests,
        warmup=warmup,
        max_tokens=max_tokens,
        exact_tokens=exact_tokens,
        prompt_words=prompt_words,
        pictures=pictures,
        repeat=repeat,
        timeout=timeout,
        seed=seed,
    )
    if plot is not None:
        require_plots()
    total = (requests + warmup) * len(settings.concurrency)
    with progress_bar("requests", total) as advance:
        result = asyncio.run(
            measure(settings, api_key=os.environ.get(key_variable) or None, progress=advance)
        )
    if output is not None:
        _write(output, result)
    if plot is not None:
        draw(result, plot)
    if as_json:
        print(as_dict(result))
        return
    print(table(*rows(result)))
    for level in result["levels"]:
        for line in _warnings(level):
            note(line)
    for name in ("ttft", "tpot", "itl"):
        note(f"{name.upper()}: {result['definitions'][name]}")


def rows(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the printed table; times in milliseconds, medians and 95th percentiles."""
    header = ["at once", "requests", "failed", "requests/s", "tokens/s"]
    header += [f"{name} {share}" for name in ("TTFT", "TPOT", "ITL") for share in ("p50", "p95")]
    lines = []
    for level in result["levels"]:
        times = [
            "" if level[name] is None else f"{1000 * level[name][share]:.1f} ms"
            for name in ("ttft", "tpot", "itl")
            for share in ("p50", "p95")
        ]
        failed = sum(level["failures"].values())
        counts = [str(level["concurrency"]), str(level["requests"]), str(failed)]
        lines.append([*counts, f"{level['request_rate']:.2f}", f"{level['output_rate']:.1f}", *times])
    return header, lines


def _warnings(level: Mapping[str, Any]) -> list[str]:
    at = f"at {level['concurrency']} at once"
    found = [f"{at}: {count} failed: {failure}" for failure, count in level["failures"].items()]
    if level["tokens_counted_by"] != ["usage"]:
        found.append(f"{at}: the server sends no usage, so chunks were counted as tokens")
    if level["generator_load"] > BUSY:
        share = round(100 * level["generator_load"])
        found.append(f"{at}: this program used {share} % of a core, and may be what was measured")
    if level["cached_tokens"]:
        found.append(
            f"{at}: {level['cached_tokens']:,} of {level['prompt_tokens']:,} prompt tokens came from a cache"
        )
    return found


def _levels(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise FoveateError(
            f"--concurrency is {text!r}", why="it must be whole numbers", fix="Such as: --concurrency 1,4,16"
        ) from error


def _write(path: Path, result: Mapping[str, Any]) -> None:
    from foveate.cli.machine import facts
    from foveate.evaluate.provenance import commit, write_atomically

    document = {"commit": commit(), "machine": facts(), **result}
    write_atomically(path, json.dumps(document, indent=1) + "\n")
