"""The world's held-out test: accuracy of a model per question family, with chance and no-image baselines.

Every picture carries one question, so items are independent and Wilson intervals hold. Answers are read as they
come: right, wrong, or unparsed (no possible answer at all), which counts as wrong and is printed. Knows a model only
through `VisionLanguageModel.prepare` and `.generate`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from PIL import Image

from foveate.evaluate.overlap import intersection_over_union
from foveate.evaluate.statistics import wilson_interval
from foveate.world import FAMILIES, Example, Question, chance, make_example

SCORED_FAMILIES = tuple(FAMILIES)
# What the model is asked to reach on the default difficulty, fixed before it was trained.
TARGETS = {
    "existence": 0.95,
    "attribute": 0.95,
    "comparison": 0.95,
    "relation": 0.95,
    "count": 0.90,
    "reading": 0.85,
    "marker": 0.90,
}
_PLACE_TOLERANCE = 5  # captions may be this many hundredths of the picture off
_BOX = re.compile(r"\[?\s*(\d+),\s*(\d+),\s*(\d+),\s*(\d+)\s*\]?")


class Answering(Protocol):
    """The part of a model that a test needs."""

    def prepare(self, messages: Sequence[dict[str, Any]], *, images: Sequence[Any] = ()) -> Any: ...

    def generate(self, prompt: Any, *, max_new_tokens: int = 128) -> Iterator[Any]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One question with what the model said with the picture and without it."""

    family: str
    difficulty: int
    index: int
    question: str
    target: str
    reply: str
    blind_reply: str
    outcome: str
    blind_outcome: str
    chance: float
    tags: tuple[str, ...]


def _same_listing(target: str, reply: str) -> bool:
    """Every object listed with all its attributes, and its place within the tolerance."""

    def entries(text: str) -> list[tuple[str, int, int]]:
        parts = [part.split(maxsplit=2) for part in text.split("; ")]
        return sorted(
            (p[2], int(p[0]), int(p[1])) for p in parts if len(p) == 3 and p[0].isdigit() and p[1].isdigit()
        )

    wanted, given = entries(target), entries(reply)
    return len(wanted) == len(given) and all(
        a[0] == b[0] and abs(a[1] - b[1]) <= _PLACE_TOLERANCE and abs(a[2] - b[2]) <= _PLACE_TOLERANCE
        for a, b in zip(wanted, given, strict=True)
    )


def outcome(question: Question, reply: str) -> str:
    """ "right", "wrong" or "unparsed". Boxes count from an intersection over union of 0.5."""
    reply = reply.strip()
    if question.family == "grounding":
        found, wanted = _BOX.fullmatch(reply), _BOX.fullmatch(question.answer)
        if found is None or wanted is None:
            return "unparsed"
        overlap = intersection_over_union([int(v) for v in found.groups()], [int(v) for v in wanted.groups()])
        return "right" if overlap >= 0.5 else "wrong"
    if question.family == "caption" and question.text.startswith("List every object"):
        return "right" if _same_listing(question.answer, reply) else "wrong"
    if reply == question.answer:
        return "right"
    return "unparsed" if question.choices and reply not in question.choices else "wrong"


def test_items(family: str, count: int, *, difficulty: int) -> Iterator[tuple[Example, Question]]:
    """`count` test pictures with one question of the family each; pictures that cannot be asked are passed over."""
    domains = ("shapes", "page") if family in ("reading", "caption") else (FAMILIES[family][0],)
    made, index = 0, 0
    while made < count:
        # Offsetting by family keeps families from sharing pictures.
        place = 100_000 * (1 + SCORED_FAMILIES.index(family)) + index
        domain = domains[index % len(domains)]
        index += 1
        example = make_example(domain, "test", place, questions=1, difficulty=difficulty, families=[family])
        if example.dialogues:
            made += 1
            yield example, example.dialogues[0][0]


def answer(model: Answering, question: str, image: Image.Image | None) -> str:
    """The greedy reply to one question."""
    content: list[dict[str, Any]] = [{"type": "text", "text": question}]
    if image is not None:
        content.insert(0, {"type": "image"})
    prompt = model.prepare([{"role": "user", "content": content}], images=[] if image is None else [image])
    return "".join(token.text for token in model.generate(prompt, max_new_tokens=160))


def evaluate(
    model: Answering,
    *,
    per_family: int = 400,
    difficulties: Sequence[int] = (2,),
    families: Sequence[str] = SCORED_FAMILIES,
    progress: Callable[[int, int], None] | None = None,
) -> list[Sample]:
    """Ask every family at every difficulty, with and without the picture."""
    samples: list[Sample] = []
    total = per_family * len(difficulties) * len(families)
    for difficulty in difficulties:
        for family in families:
            for example, question in test_items(family, per_family, difficulty=difficulty):
                image = Image.fromarray(example.rendering.rgb)
                seen, blind = answer(model, question.text, image), answer(model, question.text, None)
                samples.append(
                    Sample(
                        family=family,
                        difficulty=difficulty,
                        index=example.index,
                        question=question.text,
                        target=question.answer,
                        reply=seen,
                        blind_reply=blind,
                        outcome=outcome(question, seen),
                        blind_outcome=outcome(question, blind),
                        chance=chance([question]),
                        tags=question.tags,
                    )
                )
                if progress:
                    progress(len(samples), total)
    return samples


def _row(samples: Sequence[Sample]) -> dict[str, Any]:
    right = sum(s.outcome == "right" for s in samples)
    blind = sum(s.blind_outcome == "right" for s in samples)
    low, high = wilson_interval(right, len(samples))
    blind_low, blind_high = wilson_interval(blind, len(samples))
    return {
        "questions": len(samples),
        "accuracy": right / len(samples),
        "interval": [low, high],
        "unparsed": sum(s.outcome == "unparsed" for s in samples),
        "chance": sum(s.chance for s in samples) / len(samples),
        "no_image": blind / len(samples),
        "no_image_interval": [blind_low, blind_high],
    }


def summarise(samples: Sequence[Sample]) -> dict[str, Any]:
    """Rows per difficulty and family, then per tag (two-hop, held-out, unseen-word, ...) at the default difficulty."""
    by_difficulty: dict[str, dict[str, Any]] = {}
    for difficulty in sorted({s.difficulty for s in samples}):
        mine = [s for s in samples if s.difficulty == difficulty]
        rows: dict[str, Any] = {}
        for family in dict.fromkeys(s.family for s in mine):
            rows[family] = _row([s for s in mine if s.family == family])
            if difficulty == 2 and family in TARGETS:
                rows[family]["target"] = TARGETS[family]
        by_difficulty[str(difficulty)] = rows
    tags: dict[str, Any] = {}
    for sample in samples:
        if sample.difficulty == 2:
            for tag in sample.tags:
                tags.setdefault(f"{sample.family}/{tag}", []).append(sample)
    return {
        "difficulty": by_difficulty,
        "tags": {name: _row(members) for name, members in sorted(tags.items())},
    }


def run(
    model: Answering,
    *,
    description: dict[str, Any],
    per_family: int,
    difficulties: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A summary ready to be written as JSON, and the samples behind it."""
    started = time.monotonic()
    samples = evaluate(model, per_family=per_family, difficulties=difficulties, progress=progress)
    summary = {
        "model": description,
        "per_family": per_family,
        "difficulties": list(difficulties),
        "seconds": round(time.monotonic() - started, 1),
        **summarise(samples),
    }
    return summary, [asdict(s) for s in samples]
