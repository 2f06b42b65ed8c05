"""VPBench's third finding: the encoder of pictures moves scores, and kits for evaluation hide it.

Owns the codecs, the questions and the margins. Every answer comes with the digest of the pixels that the model was
given, so what an encoder did cannot stay hidden; that is checked here on every reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from foveate.claims.asking import Dialogue, Replies, dialogues, difference, row_of
from foveate.claims.base import Arm, Claim, Estimate, Margin, Paper, Progress, Row, Tier, Verdict, judge
from foveate.evaluate.contract import Item, Parameters, Picture, Reply, user
from foveate.evaluate.perturb.pictures import Codec
from foveate.evaluate.perturb.variant import Variant
from foveate.evaluate.statistics import Interval, bootstrap_mean

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

PNG, HIDDEN, LOWEST = "png", "jpeg-85", "jpeg-70"
QUALITIES = {"jpeg-95": 95, "jpeg-90": 90, HIDDEN: 85, "jpeg-80": 80, LOWEST: 70, "jpeg-30": 30}
FAMILIES = {"shapes": ("attribute", "count", "marker"), "page": ("reading",)}
PICTURES = {Tier.SMOKE: 3, Tier.CLAIM: 100}  # of each domain
_LONGEST = 32  # tokens of an answer
_DIGEST = 16  # characters of a picture's digest in a reply


class CodecMoves(Claim):
    """Right and wrong of fovea-nano on the same pictures through PNG and through JPEG."""

    name = "codec"
    system = "VPBench"
    statement = (
        "A picture's encoder moves scores: questions about pictures written as JPEG of quality 70 are answered worse "
        "than those about the same pictures as PNG, JPEG of quality 85, which public kits use unasked, changes at "
        "least 1 % of the answers, and every reply names the pixels that the model was given (fovea-nano, attribute, "
        "count, marker and reading, difficulty 2)."
    )
    limits = (
        "the paper shows ranks of nine models on photographs; these pictures are drawn, 168 pixels high, and print in "
        "them is large. Quality 30 is below what it tries."
    )
    paper = Paper(
        title="Visually Prompted Benchmarks Are Surprisingly Fragile", arxiv="2512.17875", year=2025
    )
    arms = (
        Arm(name=PNG, description="every pixel as it was drawn"),
        *(
            Arm(name=name, description=f"JPEG of quality {quality}, colour at half resolution (4:2:0)")
            for name, quality in QUALITIES.items()
        ),
    )
    margin = (
        Margin(quantity="accuracy, PNG - JPEG 70", threshold=0.0, no_effect=0.0),
        Margin(quantity="share of answers that JPEG 85 changes", threshold=0.01, no_effect=0.0),
        Margin(quantity="share of replies that name the pixels given", threshold=1.0, no_effect=None),
    )
    seeds: ClassVar = {Tier.SMOKE: (0,), Tier.CLAIM: (1, 2, 3)}
    sources = (
        "foveate.claims.codec",
        "foveate.claims.perturbed",
        "foveate.claims.asking",
        "foveate.evaluate.perturb.pictures",
    )

    @cached_property
    def _model(self) -> VisionLanguageModel:
        from foveate.models import load

        return load()

    def steps(self, tier: Tier) -> int:
        return PICTURES[tier] * sum(len(families) for families in FAMILIES.values())

    def measure(self, arm: str, *, tier: Tier, seed: int, progress: Progress) -> list[Row]:
        from foveate.claims.perturbed import ask_items
        from foveate.evaluate.nano import outcome

        asked = [
            dialogue
            for domain, families in FAMILIES.items()
            for dialogue in dialogues(domain, families, pictures=PICTURES[tier], each=1, seed=seed)
        ]
        codec = Codec(name=PNG) if arm == PNG else Codec(name="jpeg", quality=QUALITIES[arm])
        replies = ask_items(
            self._model,
            [_item(dialogue) for dialogue in asked],
            Parameters(max_tokens=_LONGEST),
            variant=Variant(name=arm, axis="codec", picture=codec),
            progress=progress,
        )
        right = tuple(
            outcome(dialogue.turns[0], reply.text) == "right"
            for dialogue, reply in zip(asked, replies, strict=True)
        )
        row = row_of(arm, seed, asked, Replies(right=(right,), kept=0, total=0, blocks=0))
        del row["kept"], row["of"]
        named = [_named(dialogue, codec, reply) for dialogue, reply in zip(asked, replies, strict=True)]
        return [row | {"pixels_named": sum(named) / len(named), "answers": [reply.text for reply in replies]}]

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Questions of all seeds together; pictures are what is resampled."""
        changed, pictures = _changed_answers(rows, HIDDEN)
        named = min(row["pixels_named"] for row in rows)
        intervals = (
            difference(rows, PNG, LOWEST),
            bootstrap_mean(changed, pictures),
            Interval(value=named, low=named, high=named, method="all counted, the least of any arm"),
        )
        shares = ", ".join(
            f"{sum(_changed_answers(rows, arm)[0]) / len(changed):.2%} at {arm}" for arm in QUALITIES
        )
        lost = difference(rows, PNG, "jpeg-30")
        note = f"answers changed: {shares}; PNG - JPEG 30 is {lost.value:.3g} ({lost.low:.3g} to {lost.high:.3g})"
        estimates = [
            Estimate(margin=margin, interval=interval)
            for margin, interval in zip(self.margin, intervals, strict=True)
        ]
        return judge(estimates, note=note)


def _item(dialogue: Dialogue) -> Item:
    number = f"{dialogue.family}-{dialogue.number}"
    picture = Picture(load=lambda: dialogue.image, name=number)
    question = dialogue.turns[0]
    return Item(
        id=number,
        messages=(user(picture, question.text),),
        target=question.answer,
        cluster=str(dialogue.number),
    )


def _named(dialogue: Dialogue, codec: Codec, reply: Reply) -> bool:
    """Whether the reply's digest is that of the picture after the codec, worked out here once more."""
    from foveate.media import open_image

    (shown,) = reply.pictures
    return bool(shown["digest"] == open_image(codec.apply(dialogue.image)).digest[:_DIGEST])


def _changed_answers(rows: Sequence[Row], arm: str) -> tuple[list[float], list[tuple[int, str]]]:
    """1 for each answer that is not PNG's, and the picture of each; seeds in order."""
    from foveate.claims.asking import pooled

    def answers(name: str) -> list[str]:
        mine = sorted((row for row in rows if row["arm"] == name), key=lambda row: row["seed"])
        return [text for row in mine for text in row["answers"]]

    changed = [float(a != b) for a, b in zip(answers(PNG), answers(arm), strict=True)]
    return changed, pooled(rows, arm).pictures
