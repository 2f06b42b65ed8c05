"""What speculation gains: decoding with a draft against plain decoding of the same requests, by batch size.

Run: python benchmarks/speculation.py [--model wide-nano] [--dtype bfloat16] [--threads 2]

The workload is fovea-nano's listing of held-out pictures of the world ("List every object with its place."), greedy.
`wide-nano` gives the same answers in a body as heavy as SmolVLM-256M's (models.py). Arms: plain; fixed: always the
draft's own depth; adaptive: as deep as pays, what `--speculate auto` does. They alternate within each repetition, and a
ratio is of one repetition. Counted are tokens after all requests of a batch have their first one, over the seconds
from there to the last. The break-even batch size is the smallest at which the fixed arm gains nothing any more.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import machine
import models
from foveate.decode.drafts.base import Draft
from foveate.decode.drafts.opening import open_draft
from foveate.decode.heads.draft import HeadDraft
from foveate.decode.heads.file import load_head, shipped_head
from foveate.decode.settings import SpeculationSettings
from foveate.engine import Engine, EngineConfig, SamplingParameters
from foveate.models import load
from foveate.models.base import VisionLanguageModel
from foveate.world import make_example

BATCHES = (1, 2, 4, 8, 16)
ARMS = ("plain", "fixed", "adaptive")
DRAFT_VOCABULARY = 8192  # of 49,280: a head that guesses among all pays a fifth of the target's pass for it
LISTING = "List every object with its place."

Request = tuple[list[dict[str, Any]], Image.Image]


def requests(count: int, seed: int) -> list[Request]:
    """Listings of pictures that no other repetition has."""
    found: list[Request] = []
    while len(found) < count:
        example = make_example("shapes", "test", seed, size=168, questions=1, difficulty=2, caption="last")
        seed += 1
        if any(question.text == LISTING for question in example.questions()):
            parts = [{"type": "image"}, {"type": "text", "text": LISTING}]
            found.append(([{"role": "user", "content": parts}], Image.fromarray(example.rendering.rgb)))
    return found


def draft_for(model: VisionLanguageModel, name: str) -> Draft:
    """fovea-nano's shipped head, widened where the target is; or what `--speculate NAME` opens."""
    if name != "head":
        return open_draft(name, model)
    nano = load(str(models.NANO), dtype="float32")
    folder = shipped_head(nano)
    assert folder is not None, "the package ships no head for fovea-nano"
    if int(model.text_config.hidden_size) == int(nano.text_config.hidden_size):
        return HeadDraft(load_head(folder, model), model)
    return HeadDraft(models.widen_head(load_head(folder, nano), model, DRAFT_VOCABULARY), model)


def engine_for(arm: str, model: VisionLanguageModel, draft: str, batch: int) -> Engine:
    config = EngineConfig(
        max_sequences=batch,
        prefix_caching=False,
        speculation=None if arm == "plain" else SpeculationSettings(adaptive=arm == "adaptive"),
    )
    return Engine(model, config, draft=None if arm == "plain" else draft_for(model, draft))


def measure(engine: Engine, batch: list[Request]) -> dict[str, Any]:
    """Tokens a second, tokens a pass, and the answers."""
    names = [
        engine.add_request(messages, SamplingParameters(max_tokens=200), images=[image])
        for messages, image in batch
    ]
    answers: dict[str, list[int]] = {name: [] for name in names}
    began, before = 0.0, 0
    while engine.has_work:
        for output in engine.step():
            answers[output.request_id] += output.token_ids
        if not began and all(answers.values()):
            began, before = time.perf_counter(), sum(map(len, answers.values()))
    seconds = time.perf_counter() - began
    told = [engine.request_statistics(name) for name in names]
    passes = sum(one.decode_passes for one in told if one is not None)
    tokens = sum(map(len, answers.values()))
    return {
        "rate": (tokens - before) / seconds,
        "accepted_length": (tokens - len(names)) / passes if passes else 1.0,
        "answers": [answers[name] for name in names],
    }


def compare(model: VisionLanguageModel, draft: str, batch: int, repetitions: int) -> dict[str, Any]:
    engines = {arm: engine_for(arm, model, draft, batch) for arm in ARMS}
    for engine in engines.values():
        measure(engine, requests(batch, 9_000_000))  # kernels and costs are learned
    ratios: dict[str, list[float]] = {"fixed": [], "adaptive": []}
    lengths: dict[str, list[float]] = {"fixed": [], "adaptive": []}
    same = total = 0
    waves = max(1, 8 // batch)
    for repetition in range(repetitions):
        sums = dict.fromkeys(ARMS, 0.0)
        for wave in range(waves):
            asked = requests(batch, 1_000_000 + 1000 * (repetition * waves + wave))
            found = {arm: measure(engines[arm], asked) for arm in ARMS}
            for arm in ARMS:
                sums[arm] += 1 / found[arm]["rate"]
            for arm in ("fixed", "adaptive"):
                lengths[arm].append(found[arm]["accepted_length"])
                pairs = list(zip(found[arm]["answers"], found["plain"]["answers"], strict=True))
                same += sum(ours == plain for ours, plain in pairs)
                total += len(pairs)
        for arm in ratios:
            ratios[arm].append(sums["plain"] / sums[arm])
    return {
        **{
            arm: {
                "median": statistics.median(each),
                "minimum": min(each),
                "maximum": max(each),
                "accepted_length": statistics.mean(lengths[arm]),
            }
            for arm, each in ratios.items()
        },
        "identical": same / total,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="wide-nano", help="wide-nano, fovea-nano, smolvlm or a folder")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--draft", default="head", help="head: fovea-nano's own; or as for --speculate")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--batch", type=int, action="append", help=f"may be repeated; default {BATCHES}")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    model = load(str(models.folder_of(chosen.model)), dtype=chosen.dtype)
    rows = {}
    print("batch  fixed (spread)        adaptive (spread)     tokens a pass  identical")
    for batch in chosen.batch or BATCHES:
        row = rows[str(batch)] = compare(model, chosen.draft, batch, chosen.repetitions)
        shown = [
            f"{row[arm]['median']:.2f} ({row[arm]['minimum']:.2f} to {row[arm]['maximum']:.2f})"
            for arm in ("fixed", "adaptive")
        ]
        print(
            f"{batch:5}  {shown[0]:20}  {shown[1]:20}  {row['fixed']['accepted_length']:13.2f}"
            f"  {row['identical']:9.3f}",
            flush=True,
        )
    losing = [int(batch) for batch, row in rows.items() if row["fixed"]["median"] <= 1]
    command = (
        f"python benchmarks/speculation.py --model {chosen.model} --dtype {chosen.dtype} --draft {chosen.draft}"
        f" --threads {chosen.threads} --repetitions {chosen.repetitions}"
    )
    name = f"speculation-{Path(chosen.model).name}-{chosen.dtype}-{Path(chosen.draft).name}"
    machine.write(name, command, {"batches": rows, "break_even": min(losing, default=None)})


if __name__ == "__main__":
    main()
