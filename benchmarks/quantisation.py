"""Weight-only quantisation on one thread: the kernels row by row, and whole models writing one answer.

Ratios of the processor's time, float32 over the others in the same repetition, so above 1 is faster. Layers are as
many copies as fill FILL bytes in float32, visited in turn, for a model never finds a layer's weights in a near cache.

Run: python benchmarks/quantisation.py [--only kernels|models] [--repetitions N] [--json]
(the models need benchmarks/requirements.txt)
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import machine
from foveate.engine import Engine, EngineConfig, SamplingParameters
from foveate.models import load
from foveate.models.parts import int8_kernel
from foveate.models.parts.packing import PackedLinear, packing_pays
from foveate.models.quantisation import Int4Linear, Int8Linear
from models import make_smolvlm

NAME = "quantisation"
# [out, in] of SmolLM2-135M's layers and head, and of a 1.3 billion parameter model's.
SHAPES = (
    (576, 576),
    (192, 576),
    (1536, 576),
    (576, 1536),
    (49152, 576),
    (2048, 2048),
    (5504, 2048),
)
ROWS = (1, 4, 16, 32, 256)
FILL = 32 << 20  # in int4 still twice a core's own cache, or an arm would find what the one before it left
TOKENS = 24
PROMPT_WORDS = 230
BASE = "float32"

Call = Callable[[], object]


def ratios(arms: dict[str, Call], repetitions: int) -> dict[str, dict[str, float]]:
    """Median, least and largest of BASE's time over each arm's; the first round warms up.

    Arms come in another order each time: two that read the same weights would else always meet the same
    leftovers in the cache that all cores share.
    """
    names = list(arms)
    times: dict[str, list[float]] = {name: [] for name in names}
    order = random.Random(repetitions)
    for _ in range(repetitions + 1):
        for name in order.sample(names, len(names)):
            began = time.process_time()
            arms[name]()
            times[name].append(time.process_time() - began)
    measured = {name: each[1:] for name, each in times.items()}
    return {
        name: {
            "microseconds": round(1e6 * statistics.median(mine), 1),
            **spread(measured[BASE], mine),
        }
        for name, mine in measured.items()
    }


def spread(base: Sequence[float], mine: Sequence[float]) -> dict[str, float]:
    """Of the ratios within repetitions: above 1 where `mine` took less time."""
    each = [a / b for a, b in zip(base, mine, strict=True)]
    return {
        "median": round(statistics.median(each), 3),
        "minimum": round(min(each), 3),
        "maximum": round(max(each), 3),
        "repetitions": len(each),
    }


def layer_arms(linears: Sequence[nn.Linear], rows: int) -> dict[str, Call]:
    """Every way to multiply by the same weights; each call visits all copies."""
    x = torch.randn(rows, linears[0].in_features)
    short = x.bfloat16()
    eights, fours = [Int8Linear(linear) for linear in linears], [Int4Linear(linear) for linear in linears]
    halves: Sequence[nn.Module] = [copy.deepcopy(linear).bfloat16() for linear in linears]
    if packing_pays(torch.bfloat16, torch.device("cpu")):
        halves = [PackedLinear(half) for half in halves]
    return {
        BASE: lambda: [layer(x) for layer in linears],
        "bfloat16": lambda: [layer(short) for layer in halves],
        "int8 as loaded": lambda: [layer(x) for layer in eights],
        **(
            {"int8 compiled": lambda: [layer.compiled(x) for layer in eights]}
            if int8_kernel.available()
            else {}
        ),
        "int8 narrow": lambda: [layer.narrow(short) for layer in eights],
        "int8 widened": lambda: [layer.widened(short) for layer in eights],
        "int8 to float32": lambda: [F.linear(x, layer.dequantised()) for layer in eights],
        "int4 as loaded": lambda: [layer(x) for layer in fours],
        "int4 narrow": lambda: [layer.narrow(short) for layer in fours],
        "int4 widened": lambda: [layer.widened(short) for layer in fours],
        "int4 to float32": lambda: [F.linear(x, layer.dequantised()) for layer in fours],
    }


def kernels(repetitions: int) -> list[dict[str, Any]]:
    found = []
    for out, inside in SHAPES:
        copies = max(1, FILL // (4 * out * inside))
        linears = [nn.Linear(inside, out, bias=False) for _ in range(copies)]
        for rows in ROWS:
            row = {"out": out, "in": inside, "rows": rows, "copies": copies}
            found.append({**row, "arms": ratios(layer_arms(linears, rows), repetitions)})
            shown = {name: arm["median"] for name, arm in found[-1]["arms"].items()}
            print(f"{out} x {inside}, {rows} rows: {shown}", flush=True)
    return found


class Writer:
    """One model behind the engine: the processor's time of a prompt and of the tokens after its first."""

    def __init__(self, dtype: str, quantise: str | None) -> None:
        self.model = load(make_smolvlm(), dtype=dtype, device="cpu", quantise=quantise)
        self.engine = Engine(self.model, EngineConfig(max_sequences=2, memory_bytes=256 << 20))

    def times(self, text: str) -> tuple[float, float]:
        """Seconds of the step that reads the prompt, and of one decoding step, the median of all."""
        parameters = SamplingParameters(max_tokens=TOKENS, ignore_end=True)
        self.engine.add_request([{"role": "user", "content": text}], parameters)
        steps = []
        while self.engine.has_work:
            began = time.process_time()
            self.engine.step()
            steps.append(time.process_time() - began)
        assert len(steps) == TOKENS, f"the prompt was cut into {len(steps) - TOKENS + 1} pieces"
        return steps[0], statistics.median(steps[1:])


def models(repetitions: int) -> list[dict[str, Any]]:
    arms = {
        " ".join(filter(None, (dtype, quantise))): Writer(dtype, quantise)
        for dtype in ("float32", "bfloat16")
        for quantise in (None, "int8", "int4")
    }
    names = list(arms)
    prompt: dict[str, list[float]] = {name: [] for name in names}
    decode: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(repetitions + 1):
        # Another text each time, so that no prefix is found in the cache.
        text = " ".join(f"{(repetition + 7) * word}" for word in range(PROMPT_WORDS // 3))
        for name in names[repetition % len(names) :] + names[: repetition % len(names)]:
            first, later = arms[name].times(text)
            if repetition:
                prompt[name].append(first)
                decode[name].append(later)
    return [
        {
            "model": name,
            "weights": arms[name].model.describe()["quantisation"],
            "prompt": {"milliseconds": milliseconds(prompt[name]), **spread(prompt[BASE], prompt[name])},
            "decode": {"milliseconds": milliseconds(decode[name]), **spread(decode[BASE], decode[name])},
        }
        for name in names
    ]


def milliseconds(times: Sequence[float]) -> float:
    return round(1e3 * statistics.median(times), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("kernels", "models"))
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--json", action="store_true", help=f"write results/benchmarks/{NAME}.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = machine.RESULTS / f"{NAME}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else {}
    with torch.inference_mode():
        for part, measure in (("kernels", kernels), ("models", models)):
            if arguments.only in (None, part):
                rows[part] = measure(arguments.repetitions)
    print(json.dumps(rows.get("models"), indent=1))
    if arguments.json:
        print(machine.write(NAME, "python benchmarks/quantisation.py --json", rows))


if __name__ == "__main__":
    main()
