"""COCO's JSON in and out, and its average precision by pycocotools.

Instances are read from and written to the format of COCO, Objects365, LVIS and ODinW (`instances_*.json`: images,
annotations, categories) and its results format. A vision-language model gives no confidence with its boxes, and
average precision needs one; how scores are set instead is said at `average_precision`. Knows no model and no task.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from foveate.evaluate import masks
from foveate.evaluate.boxes import Box, Size
from foveate.evaluate.contract import BrokenItem, EvaluationError

Kind = Literal["bbox", "segm"]
Confidence = Literal["order", "constant"]
# Groups of pictures by how many objects they hold; COCO's mean is 7.3.
DENSITIES: dict[str, tuple[int, int]] = {"few": (1, 5), "several": (6, 15), "many": (16, 10**9)}
_AREAS = ("", "_small", "_medium", "_large")  # below 32 and 96 pixels squared, as COCO has it


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One object.

    Attributes:
        label: its class by name.
        box: left, top, right, bottom, from 0 to 1.
        mask: run lengths of `masks`; None where there are only boxes.
        crowd: a region of many objects that were not told apart.
    """

    label: str
    box: Box
    mask: masks.RunLengths | None = None
    crowd: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as targets and details hold it."""
        plain: dict[str, Any] = {"label": self.label, "box": [round(v, 6) for v in self.box]}
        return plain | ({"mask": self.mask} if self.mask else {}) | ({"crowd": True} if self.crowd else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Instance:
        """The inverse of `to_dict`."""
        left, top, right, bottom = data["box"]
        return cls(
            label=data["label"],
            box=(left, top, right, bottom),
            mask=data.get("mask"),
            crowd=data.get("crowd", False),
        )


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """A picture with objects: `name` is its file, `size` width and height in pixels.

    Attributes:
        objects: how many the whole picture holds, where `instances` are those of some classes only; None where they
            are all.
    """

    name: str
    size: Size
    instances: tuple[Instance, ...]
    objects: int | None = None

    @property
    def density(self) -> int:
        """Objects in the picture, crowds not counted."""
        return count_objects(self.instances) if self.objects is None else self.objects


def count_objects(instances: Sequence[Instance]) -> int:
    """All but crowds, which are regions and not objects."""
    return sum(not instance.crowd for instance in instances)


# -- in ---------------------------------------------------------------------------------------------------


def read_instances(path: Path) -> tuple[tuple[str, ...], list[Annotated | BrokenItem]]:
    """The classes by id and every picture of an `instances_*.json`, in the file's order.

    A picture with an unreadable annotation is a `BrokenItem`: its truth would be incomplete.

    Raises:
        EvaluationError: no file, or one that is not of this format.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise EvaluationError(f"{path} cannot be read", why=str(problem.strerror)) from None
    except ValueError as problem:
        raise EvaluationError(f"{path.name} is not JSON", why=str(problem)) from None
    lists = ("images", "annotations", "categories")
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in lists):
        raise EvaluationError(f"{path.name} is not COCO's format", why=f"it has no lists {', '.join(lists)}")
    try:
        names = {c["id"]: str(c["name"]) for c in sorted(data["categories"], key=lambda c: c["id"])}
    except (KeyError, TypeError) as problem:
        raise EvaluationError(f"{path.name}: a category without id or name", why=str(problem)) from None
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in data["annotations"]:
        if isinstance(annotation, dict):
            by_image[_id(annotation.get("image_id"))].append(annotation)
    rows = [_picture(number, image, by_image, names) for number, image in enumerate(data["images"])]
    return tuple(dict.fromkeys(names.values())), rows


def _picture(
    number: int, image: Any, by_image: Mapping[Any, list[dict[str, Any]]], names: Mapping[Any, str]
) -> Annotated | BrokenItem:
    place = f"images[{number}]"
    if not isinstance(image, dict) or not isinstance(image.get("file_name"), str):
        return BrokenItem(id=place, reason="no file_name")
    name, width, height = image["file_name"], image.get("width"), image.get("height")
    if not isinstance(width, int) or not isinstance(height, int) or min(width, height) < 1:
        return BrokenItem(id=name, reason=f"width {width!r} and height {height!r}")
    try:
        found = [_instance(a, names, (width, height)) for a in by_image.get(_id(image.get("id")), [])]
    except ValueError as problem:
        return BrokenItem(id=name, reason=str(problem))
    return Annotated(name=name, size=(width, height), instances=tuple(found))


def _instance(annotation: Mapping[str, Any], names: Mapping[Any, str], size: Size) -> Instance:
    which = f"annotation {annotation.get('id')}"
    label, values = names.get(_id(annotation.get("category_id"))), annotation.get("bbox")
    if label is None:
        raise ValueError(f"{which}: no category {annotation.get('category_id')!r}")
    if not isinstance(values, list) or len(values) != 4 or not all(_is_finite(v) for v in values):
        raise ValueError(f"{which}: bbox {values!r}")
    left, top, width, height = values
    if width <= 0 or height <= 0:
        raise ValueError(f"{which}: a box without area")
    edges = (left / size[0], top / size[1], (left + width) / size[0], (top + height) / size[1])
    box = tuple(min(1.0, max(0.0, edge)) for edge in edges)
    segmentation = annotation.get("segmentation")
    try:
        mask = masks.from_coco(segmentation, size) if segmentation else None
    except ValueError as problem:
        raise ValueError(f"{which}: {problem}") from None
    return Instance(
        label=label, box=(box[0], box[1], box[2], box[3]), mask=mask, crowd=bool(annotation.get("iscrowd"))
    )


def _id(value: Any) -> int | str | None:
    """An id as the format has it; None for anything else, which then belongs to nothing."""
    return value if isinstance(value, (int, str)) else None


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


# -- out --------------------------------------------------------------------------------------------------


def instances_json(pictures: Sequence[Annotated], labels: Sequence[str]) -> dict[str, Any]:
    """The truth as an `instances_*.json`; ids count from 1 in the order given."""
    ids = {label: number for number, label in enumerate(labels, start=1)}
    images = [
        {"id": number, "file_name": p.name, "width": p.size[0], "height": p.size[1]}
        for number, p in enumerate(pictures, start=1)
    ]
    annotations = [
        {"image_id": number, **_row(instance, ids, p.size), "iscrowd": int(instance.crowd)}
        for number, p in enumerate(pictures, start=1)
        for instance in p.instances
    ]
    return {
        "images": images,
        "annotations": [{"id": n, **row} for n, row in enumerate(annotations, start=1)],
        "categories": [{"id": number, "name": label} for label, number in ids.items()],
    }


def results_json(
    pictures: Sequence[Annotated], labels: Sequence[str], *, confidence: Confidence = "order"
) -> list[dict[str, Any]]:
    """What was found, as COCO's results format; classes outside `labels` have no id and are left out."""
    ids = {label: number for number, label in enumerate(labels, start=1)}
    return [
        {"image_id": number, **_row(instance, ids, p.size), "score": _score(rank, number, confidence)}
        for number, p in enumerate(pictures, start=1)
        for rank, instance in enumerate(p.instances)
        if instance.label in ids
    ]


def _row(instance: Instance, ids: Mapping[str, int], size: Size) -> dict[str, Any]:
    left, top, right, bottom = (v * size[i % 2] for i, v in enumerate(instance.box))
    width, height = right - left, bottom - top
    row = {
        "category_id": ids[instance.label],
        "bbox": [round(v, 3) for v in (left, top, width, height)],
        "area": masks.area(instance.mask) if instance.mask else width * height,
    }
    return row | ({"segmentation": instance.mask} if instance.mask else {})


def _score(rank: int, image: int, confidence: Confidence) -> float:
    """Ties fall by a digest of the picture's number: an order of the data (easy ones first) is no confidence."""
    digest = int.from_bytes(hashlib.sha256(str(image).encode()).digest()[:4], "big") / 2**32
    return (1 / (1 + rank) if confidence == "order" else 0.5) + 1e-6 * digest


# -- average precision ------------------------------------------------------------------------------------


def average_precision(
    truth: Sequence[Annotated],
    found: Sequence[Annotated],
    labels: Sequence[str],
    *,
    kind: Kind = "bbox",
    confidence: Confidence = "order",
) -> dict[str, float]:
    """COCO's mAP (mean over IoU 0.50 to 0.95), AP50, AP75, by the object's size, and by the picture's density.

    Args:
        truth, found: the same pictures in the same order.
        confidence: what stands in for the scores that replies do not have. "order": the n-th box of a reply scores
            1/n, on the guess that models name the surest first. "constant": all the same; the curve then has one
            honest point and the rest is the order of ties. Compare only runs with the same setting, and read
            precision and recall beside it, which need no scores.

    Returns:
        Figures from 0 to 1. Those that nothing counts for (no large object anywhere) are left out.
    """
    instances = instances_json(truth, labels)
    results = results_json(found, labels, confidence=confidence)
    # Results are annotations of another file on the same pictures; `loadRes` refuses an empty list.
    detections = [{"id": n, "iscrowd": 0, **row} for n, row in enumerate(results, start=1)]
    with contextlib.redirect_stdout(io.StringIO()):
        pair = _indexed(instances), _indexed(instances | {"annotations": detections})
        figures = _figures(COCOeval(*pair, iouType=kind))
        for name, (low, high) in DENSITIES.items():
            chosen = [
                number for number, picture in enumerate(truth, start=1) if low <= picture.density <= high
            ]
            if chosen:
                figures |= _density(COCOeval(*pair, iouType=kind), name, chosen)
    return figures


def _indexed(dataset: dict[str, Any]) -> COCO:
    made = COCO()
    made.dataset = dataset
    made.createIndex()
    return made


def _precision(evaluation: COCOeval) -> np.ndarray:
    """[IoU threshold, recall, class, area], -1 where there is nothing to find; at most 100 boxes a picture."""
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"])[..., -1]


def _figures(evaluation: COCOeval) -> dict[str, float]:
    precision = _precision(evaluation)
    rows = {"mAP": precision[..., 0], "AP50": precision[0, ..., 0], "AP75": precision[5, ..., 0]}
    rows |= {f"AP{name}": precision[..., number] for number, name in enumerate(_AREAS) if name}
    return {name: float(row[row > -1].mean()) for name, row in rows.items() if (row > -1).any()}


def _density(evaluation: COCOeval, name: str, images: list[int]) -> dict[str, float]:
    evaluation.params.imgIds = images
    precision = _precision(evaluation)[..., 0]
    known = precision[precision > -1]
    return {f"mAP_{name}": float(known.mean())} if known.size else {}
