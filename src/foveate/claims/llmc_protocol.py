"""LLMC+'s protocol on fovea-nano: what suffers most from fewer tokens, and whether fewer bits add to that.

Owns the questions, the arms and the margins. Each picture of shapes is talked about twice, with its two questions in
either order, so that every question is asked both first and second and the two can be paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from foveate.claims.asking import Dialogue, Replies, ask_all, dialogues, pair, row_of
from foveate.claims.base import Arm, Claim, Estimate, Margin, Paper, Progress, Row, Tier, Verdict, judge
from foveate.evaluate.statistics import Interval, bootstrap_mean, bootstrap_unpaired

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

FAMILIES = ("existence", "attribute")
FULL, REDUCED, INT8, BOTH = "full", "fastervlm-25", "int8", "int8-fastervlm-25"
FIRST, SECOND, READING = "first", "second", "reading"
PICTURES = {Tier.SMOKE: 8, Tier.CLAIM: 80}


class CompressionProtocol(Claim):
    """Accuracy of first and second turns and of reading, with fewer tokens, fewer bits, and both."""

    name = "llmc-protocol"
    system = "LLMC+"
    statement = (
        "At 25 % of the tokens by FasterVLM reading loses more accuracy than questions about existence and attributes, "
        "these lose more in the second turn than in the first, and with int8 weights on top at most 2 points more than "
        "tokens and weights cost them on their own (fovea-nano, difficulty 2; 36 of 144 tokens)."
    )
    limits = (
        "spatial against temporal redundancy: fovea-nano takes single pictures. FasterVLM does not read the question; "
        "for methods that do, the authors find that a second turn suffers because it inherits the first one's choice."
    )
    paper = Paper(
        title="LLMC+: Benchmarking Vision-Language Model Compression with a Plug-and-play Toolkit",
        arxiv="2508.09981",
        year=2025,
    )
    arms = (
        Arm(name=FULL, description="all 144 tokens, float32 weights"),
        Arm(name=REDUCED, description="36 tokens by FasterVLM"),
        Arm(name=INT8, description="all tokens, the language model's weights in int8"),
        Arm(name=BOTH, description="36 tokens by FasterVLM and int8 weights"),
    )
    margin = (
        Margin(quantity="accuracy lost, reading - existence and attributes", threshold=0.0, no_effect=0.0),
        Margin(quantity="accuracy lost, second turn - first turn", threshold=0.0, no_effect=0.0),
        Margin(
            quantity="accuracy lost in both turns, tokens and int8 - (tokens alone + int8 alone)",
            threshold=0.02,
            at_least=False,
            no_effect=None,
        ),
    )
    seeds: ClassVar = {Tier.SMOKE: (0,), Tier.CLAIM: (21, 22, 23, 24)}
    sources = ("foveate.claims.llmc_protocol", "foveate.claims.asking")

    @cached_property
    def _models(self) -> dict[str | None, VisionLanguageModel]:
        return {}

    def _model(self, quantise: str | None) -> VisionLanguageModel:
        from foveate.models import load

        if quantise not in self._models:
            self._models[quantise] = load(quantise=quantise)
        return self._models[quantise]

    def steps(self, tier: Tier) -> int:
        return 5 * PICTURES[tier]

    def measure(self, arm: str, *, tier: Tier, seed: int, progress: Progress) -> list[Row]:
        from foveate.engine import VisualBudget

        model = self._model("int8" if arm in (INT8, BOTH) else None)
        visual = VisualBudget(budget="25%", reducer="fastervlm") if arm in (REDUCED, BOTH) else None
        count = PICTURES[tier]
        asked = dialogues("shapes", FAMILIES, pictures=count, each=1, seed=seed)
        talk = ask_all(model, in_both_orders(asked), visual, progress=progress)
        pages = dialogues("page", (READING,), pictures=count, each=1, seed=seed)
        read = ask_all(model, pages, visual, progress=lambda done: progress(4 * count + done))
        # The second turn of a talk has the other talk's first question.
        second = replace(talk, right=(talk.right[1][count:] + talk.right[1][:count],))
        parts = {
            FIRST: _part(arm, seed, asked, talk),
            SECOND: _part(arm, seed, asked, second),
            READING: _part(arm, seed, pages, read),
        }
        shown = {f"{name}_accuracy": part["accuracy"] for name, part in parts.items()}
        return [{"arm": arm, "seed": seed, "kept": talk.kept, **shown, "parts": parts}]

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Losses are full minus reduced, question by question, all seeds together, pictures resampled."""
        first, pictures = _lost(rows, FIRST, REDUCED)
        second, again = _lost(rows, SECOND, REDUCED)
        assert pictures == again, "the second turns are not those of the first"
        reading, pages = _lost(rows, READING, REDUCED)
        later = [b - a for a, b in zip(first, second, strict=True)]
        intervals = (
            bootstrap_unpaired(reading, first, pages, pictures),
            bootstrap_mean(later, pictures),
            _composed(rows),
        )
        note = "; ".join(
            f"{name} loses {100 * sum(lost) / len(lost):.1f} points"
            for name, lost in (("the first turn", first), ("the second", second), (READING, reading))
        )
        return judge(
            [
                Estimate(margin=margin, interval=interval)
                for margin, interval in zip(self.margin, intervals, strict=True)
            ],
            note=note,
        )


def in_both_orders(asked: Sequence[Dialogue]) -> list[Dialogue]:
    """Two questions about every picture, first all of one family and then all of the other, as talks of two turns."""
    half = len(asked) // 2
    talks = []
    for place, dialogue in enumerate(asked):
        other = asked[(place + half) % len(asked)]
        assert other.number == dialogue.number and other.family != dialogue.family, "one question a family"
        talks.append(replace(dialogue, turns=dialogue.turns + other.turns))
    return talks


def _part(arm: str, seed: int, asked: Sequence[Dialogue], replies: Replies) -> dict[str, Any]:
    """Outcomes of some of an arm's questions: a row without what the whole row says already."""
    row = row_of(arm, seed, asked, replies)
    return {name: row[name] for name in ("accuracy", "questions", "families", "pictures", "right")}


def _lost(rows: Sequence[Row], part: str, arm: str) -> tuple[list[int], list[tuple[str, int, str]]]:
    """What an arm loses on each question of a part, and the picture of each; pages are not the shapes' pictures."""
    parts = [{**row["parts"][part], "arm": row["arm"], "seed": row["seed"]} for row in rows]
    full, reduced, pictures = pair(parts, FULL, arm)
    domain = "page" if part == READING else "shapes"
    lost = [a - b for a, b in zip(full, reduced, strict=True)]
    return lost, [(domain, *picture) for picture in pictures]


def _composed(rows: Sequence[Row]) -> Interval:
    """What both lose together beyond what each loses alone, over both turns.

    Reading takes no part: it may be so low with fewer tokens alone that nothing is left to lose.
    """
    beyond: list[int] = []
    clusters: list[tuple[str, int, str]] = []
    for part in (FIRST, SECOND):
        lost = {arm: _lost(rows, part, arm)[0] for arm in (REDUCED, INT8, BOTH)}
        beyond += [
            both - tokens - bits
            for both, tokens, bits in zip(lost[BOTH], lost[REDUCED], lost[INT8], strict=True)
        ]
        clusters += _lost(rows, part, BOTH)[1]
    return bootstrap_mean(beyond, clusters)
