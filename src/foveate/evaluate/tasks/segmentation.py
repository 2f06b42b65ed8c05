"""Segmentation: outlines written as polygons, scored as masks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from foveate.evaluate import masks
from foveate.evaluate.boxes import Polygon, read_polygons, write_polygons
from foveate.evaluate.coco import Instance
from foveate.evaluate.contract import Item, Reply, Score, Scored, TaskCard
from foveate.evaluate.tasks.instances import (
    InstanceTask,
    parse_failure_rate,
    seen_size,
    true_instances,
)

_GOOD = 0.5  # intersection over union from which a class counts as found


class Segmentation(InstanceTask):
    """Outlines of objects.

    The truth is every visible pixel. A reply is correct where each class it was asked for overlaps by an IoU of 0.5 or
    more, all polygons of a class together; its value is the mean IoU of these classes. Over all replies: mIoU (areas
    summed by class, as in PASCAL VOC), FB-IoU (the mean of foreground and background, as in few-shot segmentation),
    COCO's mask AP with each polygon an object, and the share that could not be read, which outlines nothing.

    Args:
        data: a COCO file with `segmentation`, or its folder; None asks about the world.
        scenario, ask, count, difficulty, severity: as in `detection`.
    """

    card: ClassVar = TaskCard(
        title="segmentation by outlines",
        paper="detection and segmentation review, arXiv 2504.09480; COCO, arXiv 1405.0312",
        licence="CC-BY-4.0 (COCO's annotations); pictures under their own terms",
        source="cocodataset.org, annotations/instances_val2017.json, and whatever uses its format (OCHuman, COCO-OCC)",
        metric="mean IoU",
        max_tokens=2048,
    )
    form = "polygons"
    wording: ClassVar = {
        "one": "Where is every {}? Give its outline.",
        "all": "Find every object of these classes: {}. Give the class and the outline of each.",
    }
    first_stretch = 28
    with_masks = True

    def score(self, item: Item, reply: Reply) -> Score:
        classes = item.target["classes"]
        reading = read_polygons(reply.text, reply.box_format, size=seen_size(item, reply), asked=classes)
        if reading.entries is None:
            return self.unread(reply, reading.broken)
        known = [(self.class_of(label, classes), label, polygon) for label, polygon in reading.entries]
        found = [_instance(name or label, polygon, item) for name, label, polygon in known]
        overlaps = [each.inside / each.union for each in _areas(item, found).values() if each.union]
        return Score(
            outcome="correct" if all(overlap >= _GOOD for overlap in overlaps) else "wrong",
            value=sum(overlaps) / len(overlaps) if overlaps else 1.0,
            parsed=[
                [name or label, [[round(c, 6) for c in p] for p in polygon]] for name, label, polygon in known
            ],
            details={
                "found": [each.to_dict() for each in found],
                "unknown_labels": [label for name, label, _ in known if name is None],
            },
        )

    def perfect_reply(self, item: Item, box_format: str = "thousandths") -> str:
        """The outline of every object's visible pixels, one polygon each."""
        width, height = item.target["size"]
        entries = [
            (each.label, masks.to_polygon(each.mask))
            for each in true_instances(item)
            if each.mask is not None and not each.crowd
        ]
        return write_polygons(entries, box_format, size=(width, height))

    def corpus_measures(self, scored: Sequence[Scored]) -> dict[str, float]:
        """mIoU, FB-IoU, mask AP and parse failures."""
        by_class: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        front, back = [0, 0], [0, 0]
        for each in scored:
            found = [Instance.from_dict(one) for one in each.score.details.get("found", ())]
            for label, areas in _areas(each.item, found).items():
                by_class[label] = [by_class[label][0] + areas.inside, by_class[label][1] + areas.union]
            whole = _shared(each.item, found, set(each.item.target["classes"]))
            front = [front[0] + whole.inside, front[1] + whole.union]
            back = [back[0] + whole.counted - whole.union, back[1] + whole.counted - whole.inside]
        shares = [inside / union for inside, union in by_class.values() if union]
        both = [inside / union for inside, union in (front, back) if union]
        return {
            "mIoU": sum(shares) / max(1, len(shares)),
            "FB-IoU": sum(both) / max(1, len(both)),
            **self.average_precision(scored, kind="segm"),
            "parse_failure_rate": parse_failure_rate(scored),
        }


class _Areas(NamedTuple):
    """Pixels in both, in either, and that count at all."""

    inside: int
    union: int
    counted: int


def _instance(label: str, polygon: Polygon, item: Item) -> Instance:
    width, height = item.target["size"]
    xs, ys = zip(*polygon, strict=True)
    mask = masks.from_polygons([polygon], (width, height))
    return Instance(label=label, box=(min(xs), min(ys), max(xs), max(ys)), mask=mask)


def _areas(item: Item, found: Sequence[Instance]) -> dict[str, _Areas]:
    """For each class asked for."""
    return {label: _shared(item, found, {label}) for label in item.target["classes"]}


def _shared(item: Item, found: Sequence[Instance], labels: set[str]) -> _Areas:
    """Of all masks of these classes together; crowds, which nobody outlined one by one, do not count."""
    width, height = item.target["size"]
    truth = [each for each in true_instances(item) if each.label in labels]
    true, guess, crowd = (
        masks.to_array(masks.union([i.mask for i in side if i.mask is not None], (width, height)))
        for side in (
            [i for i in truth if not i.crowd],
            [i for i in found if i.label in labels],
            [i for i in truth if i.crowd],
        )
    )
    counted = true | ~crowd
    inside, union = (true & guess).sum(), ((true | guess) & counted).sum()
    return _Areas(inside=int(inside), union=int(union), counted=int(counted.sum()))
