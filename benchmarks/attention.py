"""Attention of one decoding step over the paged cache: the CPU backends against each other, in turn.

Run: python benchmarks/attention.py --json

The shape is SmolLM2-135M's: 9 query heads, 3 key heads, 64 wide, 30 layers of distinct memory, so that no layer
finds its keys in the processor's cache because another left them there. Blocks lie in random order, as in an
engine that has run for a while. A repetition is a whole step: planning the batch, storing new keys and values,
attending in every layer. Every backend's output is compared with the reference's before anything is timed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch

import machine
from engine_parts.figures import ratios, spread
from foveate.engine.attention import BACKENDS, Backend, PagedBatch, Segment
from foveate.engine.cache import KeyValueBlocks, LayerShape
from foveate.models.attention import AttentionState

HEADS, KEY_HEADS, WIDTH, LAYERS, BLOCK_SIZE = 9, 3, 64, 30, 16
NAMES = ("cpu-native", "cpu-batched", "reference")
DTYPES = {"float32": (torch.float32, 1e-4), "bfloat16": (torch.bfloat16, 3e-2)}  # allowed error, absolute
SEQUENCES, LENGTHS = (1, 8, 32), (64, 256, 1024, 2048)


class Step:
    """One decoding step of `sequences` answers that are `length` tokens long."""

    def __init__(self, memory: KeyValueBlocks, sequences: int, length: int) -> None:
        self._memory = memory
        generator = torch.Generator().manual_seed(sequences * length)
        per_sequence = -(-length // BLOCK_SIZE)
        order = torch.randperm(memory.blocks, generator=generator)[: sequences * per_sequence]
        slots = order.view(sequences, per_sequence, 1) * BLOCK_SIZE + torch.arange(BLOCK_SIZE)
        self._slots = slots.view(sequences, -1)[:, :length]
        self._query, self._key, self._value = (
            torch.randn(1, heads, sequences, WIDTH, generator=generator).to(memory.keys[0].dtype)
            for heads in (HEADS, KEY_HEADS, KEY_HEADS)
        )

    def run(self, backend: Backend) -> list[torch.Tensor]:
        """Every layer's output."""
        segments = [
            Segment(
                offset=row, start=slots.shape[0] - 1, stop=slots.shape[0], slots=slots, rules=AttentionState()
            )
            for row, slots in enumerate(self._slots)
        ]
        batch = PagedBatch(self._memory, segments, backend)
        return [
            batch.attend(layer, self._query, self._key, self._value, scale=WIDTH**-0.5)
            for layer in range(len(self._memory.keys))
        ]


def fill(dtype: torch.dtype, layers: int, blocks: int) -> KeyValueBlocks:
    shapes = [LayerShape(heads=KEY_HEADS, key_width=WIDTH, value_width=WIDTH)] * layers
    memory = KeyValueBlocks(shapes, blocks, BLOCK_SIZE, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    for tensor in (*memory.keys, *memory.values):
        tensor.normal_(generator=generator)
    return memory


def check(step: Step, backends: Sequence[Backend], allowed: float) -> None:
    """Also warms every backend up.

    Raises:
        SystemExit: a backend computes something else than the reference.
    """
    outputs = {backend.name: step.run(backend) for backend in backends}
    for name, layers in outputs.items():
        pairs = zip(layers, outputs["reference"], strict=True)
        error = max(float((got.float() - want.float()).abs().max()) for got, want in pairs)
        if not error <= allowed:
            sys.exit(f"{name} is off by {error:.1e} from the reference; nothing was timed.")


def measure(step: Step, backends: Sequence[Backend], repetitions: int) -> dict[str, list[float]]:
    """Seconds of a step by backend, in turning order."""
    seconds: dict[str, list[float]] = {backend.name: [] for backend in backends}
    for repetition in range(repetitions):
        turn = repetition % len(backends)
        for backend in (*backends[turn:], *backends[:turn]):
            started = time.perf_counter()
            step.run(backend)
            seconds[backend.name].append(time.perf_counter() - started)
    return seconds


def row_of(dtype: str, sequences: int, length: int, seconds: dict[str, list[float]]) -> dict[str, Any]:
    best = seconds[next(iter(seconds))]
    return {
        "dtype": dtype,
        "sequences": sequences,
        "tokens": length,
        "milliseconds": {name: spread([1e3 * one for one in times]) for name, times in seconds.items()},
        "over": {name: ratios(times, best) for name, times in seconds.items() if times is not best},
    }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="write results/benchmarks/attention.json")
    parser.add_argument("--repetitions", type=int, default=15, metavar="N", help="15 or more for the record")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), metavar="N")
    parser.add_argument("--quick", action="store_true", help="a smoke test; its figures mean nothing")
    options = parser.parse_args()
    if options.repetitions < 1 or options.threads < 1:
        parser.error("--repetitions and --threads are 1 or more")
    if options.quick and options.json:
        parser.error("--quick measures nothing worth a result file")
    torch.set_num_threads(options.threads)
    layers, repetitions = (2, 3) if options.quick else (LAYERS, options.repetitions)
    counts, lengths = ((1, 8), (64, 200)) if options.quick else (SEQUENCES, LENGTHS)
    rows = []
    for name, (dtype, allowed) in DTYPES.items():
        memory = fill(dtype, layers, max(counts) * -(-max(lengths) // BLOCK_SIZE))
        refusals = {one: BACKENDS[one].refusal(memory) for one in NAMES}
        for one, refusal in refusals.items():
            if refusal is not None:
                print(f"{name}: no {one}: {refusal}", file=sys.stderr)
        backends = [BACKENDS[one]() for one, refusal in refusals.items() if refusal is None]
        for sequences, length in itertools.product(counts, lengths):
            step = Step(memory, sequences, length)
            check(step, backends, allowed)
            rows.append(row_of(name, sequences, length, measure(step, backends, repetitions)))
            times = {key: row["median"] for key, row in rows[-1]["milliseconds"].items()}
            print(f"{name}, {sequences} of {length} tokens: {times} ms; {over(rows[-1])}")
        del memory  # before the next dtype's is made
    if options.json:
        command = (
            f"python benchmarks/attention.py --json --repetitions {repetitions} --threads {options.threads}"
        )
        path = machine.write("attention", command, rows)
        print(json.dumps(json.loads(path.read_text(encoding="utf-8"))))


def over(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {ratio['median']:.2f} times" for name, ratio in row["over"].items())


if __name__ == "__main__":
    main()
