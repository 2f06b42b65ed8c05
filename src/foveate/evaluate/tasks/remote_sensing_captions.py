"""Descriptions of pictures from above, against reference captions and, on the world, against the facts."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from foveate.evaluate.captions import caption_metrics, rouge_l, tokens
from foveate.evaluate.contract import BrokenItem, Item, Reply, Score, Scored, TaskCard, user
from foveate.evaluate.embedded import scene_picture, test_scenes
from foveate.evaluate.published import Row, column, data_file, items_from, picture_from
from foveate.evaluate.reply_text import answer_text, declines
from foveate.evaluate.tasks.remote_sensing_questions import PICTURES, SIZE
from foveate.world import Scene
from foveate.world.aerial_kinds import NAMED_KINDS, PLURALS
from foveate.world.aerial_questions import captions

_QUESTION = "Describe the image in detail."  # VRSBench's wording
_GOOD = 0.5  # ROUGE-L from which a caption counts as correct where outcomes are counted; the score itself has no cut


class RemoteSensingCaptions:
    """ROUGE-L of each caption; over all of them BLEU-1 to BLEU-4, ROUGE-L and CIDEr.

    Metrics of shared words cannot tell a true caption in other words from a false one. On the world the facts are
    known, so the share of them that a caption states is told too: the place, and each kind with its number.

    Args:
        data: VRSBench's `VRSBench_EVAL_Cap.json` (image_id, ground_truth) with Images_val/ beside it, or their folder;
            None asks about the world's aerial scenes, with three references each.
        count, difficulty, size: of the embedded form, as in `remote-sensing-vqa`.
    """

    card: ClassVar = TaskCard(
        title="captions of aerial pictures",
        paper="VRSBench, arXiv 2406.12384",
        licence="CC-BY-4.0 (text); DOTA's and DIOR's pictures for academic use only",
        source="huggingface.co/datasets/xiang709/VRSBench, VRSBench_EVAL_Cap.json with Images_val",
        metric="ROUGE-L",
        max_tokens=256,
    )

    def __init__(
        self, *, data: str | None = None, count: int = 100, difficulty: int = 2, size: int = SIZE
    ) -> None:
        self.data, self.count, self.difficulty, self.size = data, count, difficulty, size

    def items(self) -> Iterator[Item | BrokenItem]:
        if self.data is None:
            return itertools.islice(self._embedded(), self.count)
        path = data_file(self.data, ("*EVAL_Cap*.json", "*[Cc]ap*.json", "*[Cc]ap*.jsonl"))
        return items_from(path, partial(self._published, path.parent / PICTURES))

    def score(self, item: Item, reply: Reply) -> Score:
        text = answer_text(reply.text)
        words = tokens(text)
        if not words:
            return Score.unparsed()
        if declines(reply.text):
            return Score.refused()
        overlap = rouge_l(words, [tokens(reference) for reference in item.target["references"]])
        details: dict[str, Any] = {}
        if item.target["facts"]:
            stated = sum(_states(words, fact) for fact in item.target["facts"])
            details["facts"] = round(stated / len(item.target["facts"]), 6)
        return Score(
            outcome="correct" if overlap >= _GOOD else "wrong", value=overlap, parsed=text, details=details
        )

    def perfect_reply(self, item: Item) -> str:
        return str(item.target["references"][0])

    def corpus_measures(self, scored: Sequence[Scored]) -> dict[str, float]:
        """BLEU, ROUGE-L and CIDEr; unread and refused replies are empty captions."""
        replies = [str(each.score.parsed or "") for each in scored]
        measures = caption_metrics(replies, [each.item.target["references"] for each in scored])
        facts = [each.score.details.get("facts", 0.0) for each in scored if each.item.target["facts"]]
        return measures | ({"facts": sum(facts) / len(facts)} if facts else {})

    def _embedded(self) -> Iterator[Item]:
        for index, scene in test_scenes("aerial", 23, difficulty=self.difficulty):
            picture = scene_picture(scene, f"aerial {index}", size=self.size)
            yield Item(
                id=str(index),
                messages=(user(picture, _QUESTION),),
                target={"references": list(captions(scene)), "facts": _facts(scene)},
                cluster=str(index),
                tags=(scene.place,),
            )

    def _published(self, folder: Path, place: str, row: Row) -> Item:
        name, caption = str(column(row, "image_id", "image")), str(column(row, "ground_truth", "caption"))
        return Item(
            id=str(row.get("question_id", place)),
            messages=(user(picture_from(name, folder), str(row.get("question") or _QUESTION)),),
            target={"references": [caption], "facts": []},
            cluster=name,
        )


def _facts(scene: Scene) -> list[list[str]]:
    """Each a few ways of saying it: the place, and every kind with its number."""
    counts = Counter(o.shape for o in scene.objects if o.shape in NAMED_KINDS)
    kinds = [[f"{n} {PLURALS[kind] if n > 1 else kind}"] for kind, n in sorted(counts.items())]
    for ways in kinds:
        if ways[0].startswith("1 "):
            ways += [f"{one} {ways[0][2:]}" for one in ("a", "one", "a single")]
    return [[scene.place], *kinds]


def _states(words: Sequence[str], ways: Sequence[str]) -> bool:
    said = f" {' '.join(words)} "
    return any(f" {way} " in said for way in ways)
