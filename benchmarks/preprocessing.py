"""Time to first token of a text request while large JPEGs arrive: pictures prepared in threads, or in line.

Run: python benchmarks/preprocessing.py [--repetitions N]

fovea-nano, 16 photographs' worth of noise of 12 megapixels, and one text request that comes right after them. "in line"
is what an engine does whose loop prepares the prompts itself. "alone" is the text request without pictures. Arms
alternate within each repetition; figures are ratios to "alone" of the same repetition.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import statistics
import sys
import time
from typing import Any

import numpy
from PIL import Image

import machine
from foveate.engine import AsyncEngine, EngineConfig, SamplingParameters
from foveate.models import load

PICTURES, WIDTH, HEIGHT = 16, 4000, 3000
PARAMETERS = SamplingParameters(max_tokens=4, ignore_end=True)
WORDS = [{"role": "user", "content": "what is a circle?"}]
LOOK = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is this?"}]}]


def photographs() -> list[bytes]:
    """JPEGs that take as long to decode as photographs: smooth noise, each different."""
    files = []
    for seed in range(PICTURES):
        small = numpy.random.default_rng(seed).integers(
            0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=numpy.uint8
        )
        target = io.BytesIO()
        Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(
            target, "JPEG", quality=90
        )
        files.append(target.getvalue())
    return files


async def first_token(engine: AsyncEngine, messages: Any, images: Any = ()) -> float:
    began, first = time.perf_counter(), 0.0
    async for _ in engine.stream(messages, PARAMETERS, images=images):
        first = first or time.perf_counter() - began
    return first


async def in_line(engine: AsyncEngine, files: list[bytes]) -> float:
    """Every prompt prepared on the event loop, in order of arrival."""
    began = time.perf_counter()
    prompts = [engine.engine.model.prepare(LOOK, images=[file]) for file in files]
    prompts.append(engine.engine.model.prepare(WORDS))
    prepared = time.perf_counter() - began
    *_, text = await asyncio.gather(*(first_token(engine, prompt) for prompt in prompts))
    return prepared + text


async def in_threads(engine: AsyncEngine, files: list[bytes]) -> float:
    pictures = [asyncio.create_task(first_token(engine, LOOK, [file])) for file in files]
    await asyncio.sleep(0.05)  # all are in the queue, and workers are busy
    text = await first_token(engine, WORDS)
    await asyncio.gather(*pictures)
    return text


async def measure(repetitions: int) -> list[dict[str, float]]:
    model, files, rows = load(device="cpu"), photographs(), []
    config = EngineConfig(max_sequences=PICTURES + 1, prefix_caching=False)
    for _ in range(repetitions):
        row = {}
        for name in ("alone", "threads", "in line"):
            model.pixels = type(model.pixels)()  # no picture is known from the arm before
            async with AsyncEngine(model, config) as engine:
                await first_token(engine, WORDS)  # warm
                if name == "alone":
                    row[name] = await first_token(engine, WORDS)
                else:
                    row[name] = await (in_threads if name == "threads" else in_line)(engine, files)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="1 or more")
    options = parser.parse_args()
    rows = asyncio.run(measure(options.repetitions))
    figures = {
        name: {
            "over_alone": [round(row[name] / row["alone"], 2) for row in rows],
            "median_milliseconds": round(1000 * statistics.median(row[name] for row in rows), 1),
        }
        for name in ("alone", "threads", "in line")
    }
    gain = [row["in line"] / row["threads"] for row in rows]
    result = {
        "pictures": PICTURES,
        "pixels": [WIDTH, HEIGHT],
        "repetitions": len(rows),
        "time_to_first_token": figures,
        "in_line_over_threads": {
            "minimum": round(min(gain), 1),
            "median": round(statistics.median(gain), 1),
            "maximum": round(max(gain), 1),
        },
    }
    print(json.dumps(result, indent=2))
    command = f"python benchmarks/preprocessing.py --repetitions {len(rows)}"
    print(machine.write("preprocessing", command, [result]), file=sys.stderr)


if __name__ == "__main__":
    main()
