"""What detection and segmentation share: pictures with named objects, and questions for one class or for all.

The truth comes from the world's scenarios or from a COCO file. Knows no format of replies.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from foveate.errors import nearest
from foveate.evaluate import masks
from foveate.evaluate.boxes import Box, Size
from foveate.evaluate.coco import (
    Annotated,
    Instance,
    Kind,
    average_precision,
    count_objects,
    instances_json,
    read_instances,
    results_json,
)
from foveate.evaluate.contract import (
    AnswerForm,
    BrokenItem,
    EvaluationError,
    Item,
    Picture,
    Reply,
    Score,
    Scored,
    user,
)
from foveate.evaluate.parsing import is_refusal, read_word
from foveate.evaluate.published import data_file, picture_from
from foveate.evaluate.tasks.scenarios import Staged, get_scenario, staged
from foveate.world import SceneObject, render

ASK = ("one", "all")
_ABSENT = 0.2  # share of questions for one class that ask for one that is not there
_FILES = ("annotations/instances_val*.json", "annotations/*.json", "instances*.json", "*.json")


class InstanceTask:
    """The common part; a task adds its card, its wording, and how a reply is read and scored."""

    form: ClassVar[AnswerForm]
    wording: ClassVar[dict[str, str]]
    first_stretch: ClassVar[int]
    with_masks: ClassVar[bool]

    def __init__(
        self,
        *,
        data: str | None = None,
        scenario: str = "closed-set",
        ask: str = "one",
        count: int = 100,
        difficulty: int = 2,
        severity: int = 3,
    ) -> None:
        if ask not in ASK:
            raise EvaluationError(f"ask={ask!r} is neither one nor all", fix=nearest(ask, ASK))
        get_scenario(scenario)
        self.data, self.scenario, self.ask = data, scenario, ask
        self.count, self.difficulty, self.severity = count, difficulty, severity

    def items(self) -> Iterator[Item | BrokenItem]:
        if self.data is None:
            return itertools.islice(self._embedded(), self.count)
        return self._published(data_file(self.data, _FILES))

    # -- questions --------------------------------------------------------------------------------------

    def _embedded(self) -> Iterator[Item]:
        pictures = staged(
            self.scenario, self.first_stretch, difficulty=self.difficulty, severity=self.severity
        )
        for one in pictures:
            rng = random.Random(f"class of {one.index}")
            classes, tag = one.classes, "all-classes"
            if self.ask == "one":
                absent = one.absent and (not one.present or rng.random() < _ABSENT)
                classes = (rng.choice(one.absent if absent else one.present),)
                tag = "absent" if absent else "present"
            yield self._item(
                name=f"{self.scenario}-{one.index}",
                picture=one.picture(),
                size=(round(one.size * one.scene.aspect), one.size),
                classes=classes,
                instances=self._truth(one, classes),
                objects=len(one.scene.objects),
                lead=one.examples,
                tags=(self.scenario, tag, *one.tags),
            )

    def _truth(self, one: Staged, classes: Sequence[str]) -> list[Instance]:
        ids = render(one.scene, one.size).ids if self.with_masks else None
        return [
            Instance(label=label, box=_box(item, one.scene.aspect), mask=_mask(ids, item))
            for label, item in one.named
            if label in classes
        ]

    def _published(self, path: Path) -> Iterator[Item | BrokenItem]:
        classes, rows = read_instances(path)
        for row in rows:
            if isinstance(row, BrokenItem):
                yield row
                continue
            lacking = self.with_masks and any(i.mask is None for i in row.instances)
            if lacking:
                yield BrokenItem(id=row.name, reason="an annotation without segmentation")
                continue
            try:
                picture = picture_from(row.name, _pictures_of(path, row.name))
            except ValueError as error:
                yield BrokenItem(id=row.name, reason=str(error))
                continue
            groups = [classes]
            if self.ask == "one":
                groups = [(label,) for label in classes if any(i.label == label for i in row.instances)]
            for group in groups:
                yield self._item(
                    name=row.name if self.ask == "all" else f"{row.name} {group[0]}",
                    picture=picture,
                    size=row.size,
                    classes=group,
                    instances=[i for i in row.instances if i.label in group],
                    objects=count_objects(row.instances),
                    cluster=row.name,
                )

    def _item(
        self,
        *,
        name: str,
        picture: Picture,
        size: Size,
        classes: Sequence[str],
        instances: Sequence[Instance],
        objects: int,
        lead: Sequence[Picture | str] = (),
        cluster: str | None = None,
        tags: Sequence[str] = (),
    ) -> Item:
        question = self.wording["one" if len(classes) == 1 else "all"].format(", ".join(classes))
        return Item(
            id=name,
            messages=(user(*lead, picture, question),),
            target={
                "size": list(size),
                "classes": list(classes),
                "instances": [i.to_dict() for i in instances],
                "objects": objects,
            },
            cluster=cluster or name,
            tags=tuple(tags),
            form=self.form,
        )

    # -- what scoring shares ----------------------------------------------------------------------------

    @staticmethod
    def unread(reply: Reply, broken: Sequence[str]) -> Score:
        """The score of a reply in which nothing could be read."""
        details: dict[str, Any] = {"broken": list(broken)}
        return Score.refused(**details) if is_refusal(reply.text) else Score.unparsed(**details)

    @staticmethod
    def class_of(label: str, classes: Sequence[str]) -> str | None:
        """The asked class that a written label means; an unlabelled entry means the only class asked for."""
        if not label and len(classes) == 1:
            return classes[0]
        return read_word(label, classes)

    def average_precision(self, scored: Sequence[Scored], *, kind: Kind = "bbox") -> dict[str, float]:
        """The figures of `coco.average_precision`, ending in "_asked" where questions name one class.

        Each question is then a picture of its own in which only that class is looked for, so that what a model
        would find of other classes costs nothing: no figure to hold against COCO's.
        """
        figures = average_precision(*annotated(scored), kind=kind)
        return figures if self.ask == "all" else {f"{name}_asked": value for name, value in figures.items()}

    def coco_json(self, scored: Sequence[Scored]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Truth and results of a run as COCO's JSON, to be scored by any other tool; a picture for each question."""
        truth, found, labels = annotated(scored)
        return instances_json(truth, labels), results_json(found, labels)


def seen_size(item: Item, reply: Reply) -> Size:
    """Of what pixels in a reply count: the picture as the model's processor resized it, where the reply says so and all
    of it was resized; else as it was sent. Where a processor pads or crops, no size tells what pixels count."""
    last = reply.pictures[-1] if reply.pictures else {}
    width, height = item.target["size"]
    sent = int(last.get("width", width)), int(last.get("height", height))
    if "processed_width" in last and list(last["frame"]) == [0, 0, *sent]:
        return int(last["processed_width"]), int(last["processed_height"])
    return sent


def true_instances(item: Item) -> list[Instance]:
    """The truth of an item."""
    return [Instance.from_dict(each) for each in item.target["instances"]]


def annotated(scored: Sequence[Scored]) -> tuple[list[Annotated], list[Annotated], list[str]]:
    """Truth and findings of each item (`details["found"]`; none where nothing was read), and every class asked for."""
    truth, found = [], []
    for each in scored:
        size = (each.item.target["size"][0], each.item.target["size"][1])
        boxes = [Instance.from_dict(one) for one in each.score.details.get("found", ())]
        objects, instances = each.item.target["objects"], tuple(true_instances(each.item))
        truth.append(Annotated(name=each.item.id, size=size, instances=instances, objects=objects))
        found.append(Annotated(name=each.item.id, size=size, instances=tuple(boxes)))
    return truth, found, sorted({label for each in scored for label in each.item.target["classes"]})


def parse_failure_rate(scored: Sequence[Scored]) -> float:
    """Share of replies in which no answer could be read, refusals among them."""
    failed = sum(each.score.outcome in ("unparsed", "refused") for each in scored)
    return failed / max(1, len(scored))


def _box(item: SceneObject, aspect: float) -> Box:
    left, top, right, bottom = item.box()
    return left / aspect, top, right / aspect, bottom


def _mask(ids: np.ndarray | None, item: SceneObject) -> masks.RunLengths | None:
    return None if ids is None else masks.from_array(ids == item.id)


def _pictures_of(path: Path, name: str) -> Path:
    """The folder of the pictures: beside the file, or as COCO lays them out (val2017 next to annotations)."""
    split = path.stem.rsplit("_", 1)[-1]
    folders = [path.parent, path.parent / "images", path.parent.parent / split, path.parent.parent / "images"]
    return next((folder for folder in folders if (folder / name).is_file()), path.parent)
