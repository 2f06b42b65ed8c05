"""Referring expressions: the one box of the object that a phrase means (RefCOCO)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from foveate.errors import FoveateError
from foveate.evaluate.boxes import Box, Size, read_boxes, write_boxes
from foveate.evaluate.contract import BrokenItem, Item, Picture, Reply, Score, Scored, TaskCard, user
from foveate.evaluate.embedded import scene_picture, test_scenes
from foveate.evaluate.overlap import intersection_over_union
from foveate.evaluate.published import Row, column, data_file, items_from, picture_from
from foveate.evaluate.tasks.instances import InstanceTask, parse_failure_rate, seen_size
from foveate.world.questions import ask

THRESHOLDS = (0.5, 0.7, 0.9)


class Referring:
    """Acc@IoU 0.5: whether the box overlaps the true one by half or more.

    A reply with no box, or with two different ones, is unparsed. Over all replies: Acc@0.5, 0.7 and 0.9, the mean IoU
    (0 where nothing was read) and the share that could not be read.

    Args:
        data: RefCOCO, RefCOCO+ or RefCOCOg as JSON lines: Qwen-VL's conversion (`refcoco_val.jsonl`: image, sent, bbox
            as corners in pixels, width, height), which InternVL uses too, or lmms-lab/RefCOCO exported by
            `examples/export_dataset.py` (image, answer, bbox as corner and size in pixels; pictures are opened for
            their size). None asks the world's grounding questions.
        count: questions of the embedded form.
        difficulty: of its scenes, 1 to 3.
    """

    card: ClassVar = TaskCard(
        title="referring expressions",
        paper="RefCOCO, arXiv 1608.00272",
        licence="Apache-2.0 (refer's code and splits); COCO's pictures under their own terms",
        source="github.com/lichengunc/refer; as JSON lines with Qwen-VL's evaluation and lmms-lab/RefCOCO",
        metric="accuracy at IoU 0.5",
        max_tokens=64,
    )

    def __init__(self, *, data: str | None = None, count: int = 200, difficulty: int = 2) -> None:
        self.data, self.count, self.difficulty = data, count, difficulty

    def items(self) -> Iterator[Item | BrokenItem]:
        if self.data is None:
            return itertools.islice(self._embedded(), self.count)
        path = data_file(self.data, ("*.jsonl", "*.json"))
        return items_from(path, partial(self._published, path.parent))

    def score(self, item: Item, reply: Reply) -> Score:
        return score_box(item, reply)

    def perfect_reply(self, item: Item, box_format: str = "thousandths") -> str:
        return perfect_box(item, box_format)

    def corpus_measures(self, scored: Sequence[Scored]) -> dict[str, float]:
        """Acc@IoU, mean IoU and parse failures."""
        return box_measures(scored)

    def _embedded(self) -> Iterator[Item]:
        for index, scene in test_scenes("shapes", 36, difficulty=self.difficulty):
            question = ask(scene, "grounding", random.Random(f"referring {index}"))
            if question is None:
                continue
            asked = next(o for o in scene.objects if o.id == question.object_ids[0])
            left, top, right, bottom = asked.box()
            size = (round(168 * scene.aspect), 168)
            yield box_item(
                name=str(index),
                picture=scene_picture(scene, f"shapes {index}"),
                question=question.text,
                box=(left / scene.aspect, top, right / scene.aspect, bottom),
                size=size,
                tags=question.tags,
            )

    def _published(self, folder: Path, place: str, row: Row) -> list[Item]:
        picture = picture_from(column(row, "image", "img_path", "file_name"), folder)
        values = column(row, "bbox")
        if (
            not isinstance(values, list)
            or len(values) != 4
            or not all(isinstance(v, (int, float)) for v in values)
        ):
            raise ValueError(f"bbox {values!r}")
        phrases = row.get("sent", row.get("expression", row.get("answer")))
        if isinstance(
            phrases, list
        ):  # lmms-lab's rows have every phrase of one object, and its box as COCO has it
            values = [values[0], values[1], values[0] + values[2], values[1] + values[3]]
        width, height = _size(row, picture)
        box = (values[0] / width, values[1] / height, values[2] / width, values[3] / height)
        if not phrases or not (0 <= box[0] < box[2] <= 1.001 and 0 <= box[1] < box[3] <= 1.001):
            raise ValueError(f"no phrase, or the box {values} is not in a picture of {width} x {height}")
        phrases = [phrases] if isinstance(phrases, str) else phrases
        return [
            box_item(
                name=f"{row.get('question_id', place)}-{number}" if len(phrases) > 1 else place,
                picture=picture,
                question=f"Where is {phrase}? Give its box.",
                box=box,
                size=(width, height),
                cluster=picture.name,
            )
            for number, phrase in enumerate(phrases)
        ]


def _size(row: Row, picture: Picture) -> Size:
    width, height = row.get("width"), row.get("height")
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        return width, height
    try:
        return picture.open().size
    except FoveateError as problem:
        raise ValueError(f"no width and height, and {problem.what}") from problem


def box_item(
    *,
    name: str,
    picture: Picture,
    question: str,
    box: Box,
    size: Size,
    cluster: str | None = None,
    tags: Sequence[str] = (),
) -> Item:
    """A question whose answer is one box, given in fractions of the picture."""
    return Item(
        id=name,
        messages=(user(picture, question),),
        target={"size": list(size), "box": [round(v, 6) for v in box]},
        cluster=cluster or name,
        tags=tuple(tags),
        form="boxes",
    )


def score_box(item: Item, reply: Reply) -> Score:
    """Correct from an IoU of 0.5; the overlap is in the details."""
    reading = read_boxes(reply.text, reply.box_format, size=seen_size(item, reply))
    boxes = set(reading.shapes)
    if len(boxes) != 1:
        told = reading.broken or (f"{len(boxes)} boxes for one object",)
        return InstanceTask.unread(reply, told)
    (box,) = boxes
    overlap = intersection_over_union(item.target["box"], box)
    parsed = [round(v, 6) for v in box]
    return Score.correct_if(overlap >= THRESHOLDS[0], parsed, iou=round(overlap, 6))


def perfect_box(item: Item, box_format: str) -> str:
    """The true box as a model would write it."""
    width, height = item.target["size"]
    left, top, right, bottom = item.target["box"]
    return write_boxes([("", (left, top, right, bottom))], box_format, size=(width, height))


def box_measures(scored: Sequence[Scored]) -> dict[str, float]:
    """Acc@0.5, 0.7 and 0.9, mean IoU and parse failures of one-box questions."""
    overlaps = [float(each.score.details.get("iou", 0.0)) for each in scored]
    total = max(1, len(overlaps))
    measures = {f"Acc@{t}": sum(overlap >= t for overlap in overlaps) / total for t in THRESHOLDS}
    return measures | {"mIoU": sum(overlaps) / total, "parse_failure_rate": parse_failure_rate(scored)}
