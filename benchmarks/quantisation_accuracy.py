"""fovea-nano in float32, int8 and int4 on the same questions of the world: size, accuracy, distance of logits.

Run: python benchmarks/quantisation_accuracy.py [questions per family]      (writes results/quantisation.json)
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import machine
from foveate.evaluate.nano import SCORED_FAMILIES, answer, outcome, test_items
from foveate.evaluate.statistics import compare_paired, wilson_interval
from foveate.models import load
from foveate.models.base import VisionLanguageModel
from foveate.models.quantisation import SCHEMES, weight_bytes

RESULT = machine.RESULTS.parent / "quantisation.json"
DIFFICULTY = 2
LOGIT_PROMPTS = 3  # of each family


@dataclass(kw_only=True)
class Arm:
    """One model and what it said.

    Attributes:
        right: per question in order, 1.0 or 0.0.
        largest: per prompt, the largest absolute difference of a logit from float32's.
        relative: per prompt, norm of the difference of all logits by the norm of float32's.
    """

    model: VisionLanguageModel
    replies: list[str] = field(default_factory=list)
    right: list[float] = field(default_factory=list)
    families: dict[str, int] = field(default_factory=dict)
    largest: list[float] = field(default_factory=list)
    relative: list[float] = field(default_factory=list)


def compare_logits(arms: dict[str, Arm], question: str, image: Image.Image) -> None:
    content = [{"type": "image"}, {"type": "text", "text": question}]
    messages = [{"role": "user", "content": content}]
    exact = None
    for arm in arms.values():
        logits = arm.model.logits(arm.model.prepare(messages, images=[image]))
        exact = logits if exact is None else exact
        arm.largest.append(float((logits - exact).abs().max()))
        arm.relative.append(float((logits - exact).norm() / exact.norm()))


def ask(arms: dict[str, Arm], per_family: int) -> None:
    for family in SCORED_FAMILIES:
        for index, (example, question) in enumerate(test_items(family, per_family, difficulty=DIFFICULTY)):
            image = Image.fromarray(example.rendering.rgb)
            for arm in arms.values():
                reply = answer(arm.model, question.text, image)
                right = outcome(question, reply) == "right"
                arm.replies.append(reply)
                arm.right.append(float(right))
                arm.families[family] = arm.families.get(family, 0) + right
            if index < LOGIT_PROMPTS:
                compare_logits(arms, question.text, image)
        print(family, {name: arm.families[family] for name, arm in arms.items()}, flush=True)


def row(arm: Arm, plain: Arm, per_family: int) -> dict[str, Any]:
    questions = len(arm.right)
    result = {
        "weight_bytes": weight_bytes(arm.model.hf_model),
        "quantisation": arm.model.describe()["quantisation"],
        "questions": questions,
        "accuracy": sum(arm.right) / questions,
        "interval": list(wilson_interval(int(sum(arm.right)), questions)),
        "families": {
            name: {"accuracy": right / per_family, "interval": list(wilson_interval(right, per_family))}
            for name, right in arm.families.items()
        },
    }
    if arm is plain:
        return result
    paired = compare_paired(arm.right, plain.right)
    same = sum(a == b for a, b in zip(arm.replies, plain.replies, strict=True))
    return {
        **result,
        "difference": paired.difference,
        "difference_interval": [paired.low, paired.high],
        "same_replies": same / questions,
        "logits_largest_difference": max(arm.largest),
        "logits_relative_difference": sum(arm.relative) / len(arm.relative),
    }


def main() -> None:
    torch.set_num_threads(1)
    per_family = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    arms = {
        scheme or "float32": Arm(model=load(dtype="float32", device="cpu", quantise=scheme))
        for scheme in (None, *SCHEMES)
    }
    began = time.process_time()
    ask(arms, per_family)
    document = {
        "command": f"python benchmarks/quantisation_accuracy.py {per_family}",
        "machine": machine.describe(),
        "model": "fovea-nano",
        "difficulty": DIFFICULTY,
        "per_family": per_family,
        "rows": {name: row(arm, arms["float32"], per_family) for name, arm in arms.items()},
    }
    Path(RESULT).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"{RESULT}, {time.process_time() - began:.0f} seconds of the processor")


if __name__ == "__main__":
    main()
