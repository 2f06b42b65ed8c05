"""How far the judge of AQuA's strategies agrees with labels made by hand: counted from the labelled replies."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from foveate.evaluate.statistics import wilson_interval
from foveate.evaluate.strategy import STRATEGIES, judge_strategy
from foveate.world.asking import VALUES
from sections.markdown import ROOT, percent, table

_LABELLED = ROOT / "tests" / "evaluate" / "data" / "aqua_replies.jsonl"
_CLASSES = (*STRATEGIES, "none")


def _judged() -> list[tuple[dict[str, Any], str]]:
    rows = [json.loads(line) for line in _LABELLED.read_text(encoding="utf-8").splitlines()]
    return [
        (
            row,
            judge_strategy(
                row["question"], row["reply"], VALUES[row["values"]] if row["values"] else None
            ).strategy,
        )
        for row in rows
    ]


def agreement() -> str:
    lines = []
    for half in ("tuning", "held-out"):
        own = [(row["strategy"], said) for row, said in _judged() if row["half"] == half]
        agreed = sum(label == said for label, said in own)
        low, high = wilson_interval(agreed, len(own))
        lines.append(
            (
                half,
                str(len(own)),
                str(agreed),
                percent(agreed / len(own)),
                f"{percent(low)} to {percent(high)}",
            )
        )
    return table(("half", "replies", "agreed", "share", "95 % interval"), lines)


def confusion() -> str:
    counts = Counter((row["strategy"], said) for row, said in _judged() if row["half"] == "held-out")
    lines = [(f"`{label}`", *(str(counts[label, said]) for said in _CLASSES)) for label in _CLASSES]
    return table(("label, held-out half", *(f"judged `{said}`" for said in _CLASSES)), lines)


SECTIONS: dict[str, Callable[[], str]] = {"aqua-agreement": agreement, "aqua-confusion": confusion}
