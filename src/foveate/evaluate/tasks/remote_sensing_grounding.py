"""Boxes of small things in pictures from above, unique of their kind or not (VRSBench's grounding)."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from foveate.evaluate.boxes import Box
from foveate.evaluate.contract import BrokenItem, Item, Reply, Score, Scored, TaskCard
from foveate.evaluate.embedded import scene_picture, test_scenes
from foveate.evaluate.published import Row, column, data_file, items_from, picture_from
from foveate.evaluate.tasks.referring import box_item, box_measures, perfect_box, score_box
from foveate.evaluate.tasks.remote_sensing_questions import PICTURES, SIZE
from foveate.world.questions import ask

_PUBLISHED = re.compile(r"\{<(\d+)><(\d+)><(\d+)><(\d+)>\}")
_PUBLISHED_SIZE = (512, 512)


class RemoteSensingGrounding:
    """Acc@IoU 0.5, as `referring`, told apart for things that are the only ones of their kind and others.

    VRSBench's own script compares boxes cut to whole hundredths and adds 1 to each side, which lifts small boxes; here
    the corners it publishes beside them are compared as they are.

    Args:
        data: VRSBench's `VRSBench_EVAL_referring.json` (image_id, question, obj_corner or ground_truth, unique) with
            Images_val/ beside it, or their folder; None asks about the world's aerial scenes.
        count, difficulty, size: of the embedded form, as in `remote-sensing-vqa`.
    """

    card: ClassVar = TaskCard(
        title="boxes of small things from above",
        paper="VRSBench, arXiv 2406.12384",
        licence="CC-BY-4.0 (text); DOTA's and DIOR's pictures for academic use only",
        source="huggingface.co/datasets/xiang709/VRSBench, VRSBench_EVAL_referring.json with Images_val",
        metric="accuracy at IoU 0.5",
        max_tokens=64,
    )

    def __init__(
        self, *, data: str | None = None, count: int = 200, difficulty: int = 2, size: int = SIZE
    ) -> None:
        self.data, self.count, self.difficulty, self.size = data, count, difficulty, size

    def items(self) -> Iterator[Item | BrokenItem]:
        if self.data is None:
            return itertools.islice(self._embedded(), self.count)
        path = data_file(self.data, ("*EVAL_referring*.json", "*referring*.json", "*referring*.jsonl"))
        return items_from(path, partial(self._published, path.parent / PICTURES))

    def score(self, item: Item, reply: Reply) -> Score:
        return score_box(item, reply)

    def perfect_reply(self, item: Item, box_format: str = "thousandths") -> str:
        return perfect_box(item, box_format)

    def corpus_measures(self, scored: Sequence[Scored]) -> dict[str, float]:
        """As of `referring`, and Acc@0.5 and 0.7 of unique and of other things."""
        measures = box_measures(scored)
        for group in ("unique", "non-unique"):
            part = [each for each in scored if group in each.item.tags]
            if part:
                own = box_measures(part)
                measures |= {f"Acc@{t}_{group}": own[f"Acc@{t}"] for t in (0.5, 0.7)}
        return measures

    def _embedded(self) -> Iterator[Item]:
        for index, scene in test_scenes("aerial", 24, difficulty=self.difficulty):
            question = ask(scene, "grounding", random.Random(f"remote sensing grounding {index}"))
            if question is None:
                continue
            asked = next(o for o in scene.objects if o.id == question.object_ids[0])
            left, top, right, bottom = asked.box()
            yield box_item(
                name=str(index),
                picture=scene_picture(scene, f"aerial {index}", size=self.size),
                question=question.text,
                box=(left / scene.aspect, top, right / scene.aspect, bottom),
                size=(round(self.size * scene.aspect), self.size),
                tags=(*question.tags, asked.shape, asked.size),
            )

    def _published(self, folder: Path, place: str, row: Row) -> Item:
        name = str(column(row, "image_id", "image"))
        sentence = str(column(row, "question", "referring_sentence")).strip().rstrip(".")
        unique = row.get("unique", row.get("is_unique"))
        if not isinstance(unique, bool):
            raise ValueError(f"unique is {unique!r}")
        return box_item(
            name=str(row.get("question_id", place)),
            picture=picture_from(name, folder),
            question=f"Where is this: {sentence}? Give its box.",
            box=_published_box(row),
            size=_PUBLISHED_SIZE,
            cluster=name,
            tags=("unique" if unique else "non-unique", *_words(row, "obj_cls"), *_words(row, "size_group")),
        )


def _published_box(row: Row) -> Box:
    """Around the four corners, from 0 to 1; else the box in hundredths that answers are compared with."""
    corners = row.get("obj_corner")
    if isinstance(corners, list) and len(corners) == 8:
        try:
            values = [min(1.0, max(0.0, float(v))) for v in corners]
        except (TypeError, ValueError):
            raise ValueError(f"obj_corner {corners}") from None
        xs, ys = values[::2], values[1::2]
        box = (min(xs), min(ys), max(xs), max(ys))
    else:
        found = _PUBLISHED.fullmatch(str(column(row, "ground_truth")).strip())
        if found is None:
            raise ValueError(f"ground_truth {row['ground_truth']!r}")
        left, top, right, bottom = (int(v) / 100 for v in found.groups())
        box = (left, top, right, bottom)
    if not (box[0] < box[2] <= 1 and box[1] < box[3] <= 1):
        raise ValueError(f"a box without area: {box}")
    return box


def _words(row: Row, key: str) -> tuple[str, ...]:
    return (str(row[key]).lower(),) if row.get(key) else ()
