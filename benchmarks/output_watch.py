"""The watch on answers: false alarms on ordinary text, what it ends where a model runs on, and its cost.

Run: python benchmarks/output_watch.py [questions per family]      (writes results/benchmarks/output_watch.json)

Ordinary text: fovea-nano's answers, and this repository's files as if a model had written them, in fovea-nano's tokens
(fewer characters a token than other vocabularies have, so periods are long). Running on: fovea-nano with its end token
forbidden. Pictures: lengths drawn at random, those of an attack as Verbose Images reports them for BLIP (arXiv
2401.11170: mean 318.66, standard deviation 207.88, most 512).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import machine
from foveate.engine import Engine, EngineConfig, SamplingParameters
from foveate.evaluate.nano import SCORED_FAMILIES, test_items
from foveate.models import load
from foveate.models.base import VisionLanguageModel
from foveate.serve.safety.digests import DigestSettings, DigestStatistics
from foveate.serve.safety.energy import OutputWatch

ROOT = Path(__file__).parents[1]
KINDS = {
    "prose and tables (.md)": (".md",),
    "code (.py, .c)": (".py", ".c"),
    "data (.json, .toml)": (".json", ".toml"),
}
FOLDERS = ("benchmarks", "docs", "results", "src", "tests")
CHARACTERS = 40_000  # of each file
RUNNING_ON = 256  # tokens asked for where the end is forbidden


def first_finding(tokens: list[int], surprisals: list[float] | None = None) -> OutputWatch:
    """A watch that has read the tokens up to its first finding, or to the end."""
    watch = OutputWatch()
    for index, token in enumerate(tokens):
        if watch.observe(token, None if surprisals is None else surprisals[index]):
            break
    return watch


def texts(suffixes: tuple[str, ...]) -> Iterator[str]:
    """The repository's own files of such names."""
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")):
        if path.suffix not in suffixes or path.name == "tokenizer.json":  # a list of words is no text
            continue
        if not any(
            part.startswith(".") for part in path.relative_to(ROOT).parts
        ):  # what tools keep for themselves
            yield path.read_text(encoding="utf-8")[:CHARACTERS]


def over_texts(model: VisionLanguageModel, suffixes: tuple[str, ...]) -> dict[str, int]:
    """False alarms over all files of a kind."""
    tokenizer = model.tokenizer.backend_tokenizer  # the wrapper would warn that no file fits the context
    tokens = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts(suffixes)]
    alarms = sum(first_finding(ids).finding is not None for ids in tokens)
    return {"texts": len(tokens), "tokens": sum(map(len, tokens)), "alarms": alarms}


def over_answers(model: VisionLanguageModel, per_family: int, *, run_on: bool) -> dict[str, Any]:
    """The watch on fovea-nano's answers, with the end token allowed or forbidden."""
    engine = Engine(model, EngineConfig(max_sequences=16))
    parameters = SamplingParameters(
        max_tokens=RUNNING_ON if run_on else 160, ignore_end=run_on, temperature=0.0, top_logprobs=0
    )
    answers: dict[str, list[tuple[int, float]]] = {}
    for family in SCORED_FAMILIES:
        for example, question in test_items(family, per_family, difficulty=2):
            content = [{"type": "image"}, {"type": "text", "text": question.text}]
            messages = [{"role": "user", "content": content}]
            answers[
                engine.add_request(messages, parameters, images=[Image.fromarray(example.rendering.rgb)])
            ] = []
    while engine.has_work:
        for output in engine.step():
            answers[output.request_id] += [(entry.token_id, -entry.logprob) for entry in output.logprobs]
    watches = [first_finding([t for t, _ in answer], [s for _, s in answer]) for answer in answers.values()]
    written, read = sum(map(len, answers.values())), sum(watch.tokens for watch in watches)
    alarms = [watch.finding.reason for watch in watches if watch.finding]
    return {"texts": len(watches), "tokens": written, "alarms": len(alarms), "tokens_saved": written - read}


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Ordinary answers (log-normal) and those to a picture that is sent again and again (normal), in tokens."""

    median: float
    sigma: float
    replay_mean: float
    replay_deviation: float
    limit: int


BLIP = {
    "replay_mean": 318.66,
    "replay_deviation": 207.88,
    "limit": 512,
}  # Verbose Images, table of results on COCO
TRAFFIC = {
    "captions of about 10 tokens; replies as long as the paper's": Traffic(median=10, sigma=0.3, **BLIP),
    "conversation of about 60 tokens; replies as long as the paper's": Traffic(median=60, sigma=0.8, **BLIP),
    "conversation of about 60 tokens; replies up to a limit of 4096": Traffic(
        median=60, sigma=0.8, replay_mean=4096, replay_deviation=0, limit=4096
    ),
}


def over_pictures(
    traffic: Traffic, *, ordinary: int = 2000, replays: int = 20, seed: int = 0
) -> dict[str, Any]:
    """Requests let through, capped and throttled: ordinary pictures asked 8 times, and one replayed within a minute."""
    generator = np.random.default_rng(seed)
    statistics = DigestStatistics(DigestSettings(), clock=lambda: 0.0)
    alarms = 0
    for number in range(ordinary):
        for length in traffic.median * np.exp(generator.normal(0, traffic.sigma, 8)):
            alarms += statistics.assess("web", [str(number)]).action != "allow"
            statistics.record("web", [str(number)], int(np.clip(length, 1, traffic.limit)))
    asked = written = 0
    actions = []
    for length in generator.normal(traffic.replay_mean, traffic.replay_deviation, replays):
        wanted = int(np.clip(length, 1, traffic.limit))
        verdict = statistics.assess("mallory", ["verbose"])
        actions.append(verdict.action)
        given = {"allow": wanted, "cap": min(wanted, verdict.max_tokens or 0), "throttle": 0}[verdict.action]
        if verdict.action != "throttle":
            statistics.record("mallory", ["verbose"], given, cut=given < wanted)
        asked, written = asked + wanted, written + given
    return {
        "ordinary_requests": ordinary * 8,
        "alarms": alarms,
        "replays": {action: actions.count(action) for action in ("allow", "cap", "throttle")},
        "tokens_asked": asked,
        "tokens_written": written,
    }


def cost(tokens: int = 100_000) -> float:
    """Microseconds of CPU for one token, with surprisals."""
    ids = np.random.default_rng(0).integers(0, 50_000, tokens).tolist()
    watch, started = OutputWatch(), time.process_time()
    for token in ids:
        watch.observe(token, 1.0)
    return round(1e6 * (time.process_time() - started) / tokens, 2)


def main() -> None:
    per_family = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    model = load()
    rows = {
        "texts": {name: over_texts(model, suffixes) for name, suffixes in KINDS.items()},
        "answers": over_answers(model, per_family, run_on=False),
        "running_on": over_answers(model, max(1, per_family // 10), run_on=True),
        "pictures": {name: over_pictures(traffic) for name, traffic in TRAFFIC.items()},
        "microseconds_per_token": cost(),
    }
    print(rows)
    print(machine.write("output_watch", f"python benchmarks/output_watch.py {per_family}", rows))


if __name__ == "__main__":
    main()
