"""Detection: the boxes of every object of a class, or of many classes, scored as COCO does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from foveate.evaluate.boxes import read_boxes, write_boxes
from foveate.evaluate.coco import Instance
from foveate.evaluate.contract import Item, Reply, Score, Scored, TaskCard
from foveate.evaluate.overlap import Matching, match
from foveate.evaluate.tasks.instances import (
    InstanceTask,
    parse_failure_rate,
    seen_size,
    true_instances,
)


class Detection(InstanceTask):
    """Boxes of objects.

    A reply is correct where every object is found once (IoU of at least 0.5) and nothing else is; its value is F1 at
    0.5. Over all replies: COCO's mean average precision (see `coco.average_precision` for what stands in for
    confidence, and `InstanceTask.average_precision` for questions about one class), precision and
    recall at 0.5, and the share of replies that could not be read, which find nothing.

    Args:
        data: a COCO file (`instances_val2017.json` and its like) or the folder that holds annotations/ and the
            pictures; None asks about the world.
        scenario: of the world, one of `scenarios.SCENARIOS`.
        ask: "one" class a question (one question in five for a class that is not there; with `data`, those that are),
            or "all" of them, listed.
        count: questions of the embedded form.
        difficulty: of the scenes, 1 to 3.
        severity: of the scenario "corruption", 1 to 5.
    """

    card: ClassVar = TaskCard(
        title="object detection in eight scenarios",
        paper="detection and segmentation review, arXiv 2504.09480; COCO, arXiv 1405.0312",
        licence="CC-BY-4.0 (COCO's annotations); pictures under their own terms",
        source="cocodataset.org, annotations/instances_val2017.json, and whatever uses its format (LVIS, ODinW)",
        metric="F1 at IoU 0.5",
        max_tokens=1024,
    )
    form = "boxes"
    wording: ClassVar = {
        "one": "Where is every {}? Give its box.",
        "all": "Find every object of these classes: {}. Give the class and the box of each.",
    }
    first_stretch = 20
    with_masks = False

    def score(self, item: Item, reply: Reply) -> Score:
        classes = item.target["classes"]
        reading = read_boxes(reply.text, reply.box_format, size=seen_size(item, reply), asked=classes)
        if reading.entries is None:
            return self.unread(reply, reading.broken)
        known = [(self.class_of(label, classes), label, box) for label, box in reading.entries]
        found = [Instance(label=name or label, box=box) for name, label, box in known]
        matching = self._matching(item, found)
        return Score(
            outcome="correct" if matching.f1 == 1 else "wrong",
            value=matching.f1,
            parsed=[[each.label, list(each.to_dict()["box"])] for each in found],
            details={
                "found": [each.to_dict() for each in found],
                "matched": len(matching.pairs),
                "missed": len(matching.missed),
                "extra": len(matching.extra),
                "unknown_labels": [label for name, label, _ in known if name is None],
            },
        )

    @staticmethod
    def _matching(item: Item, found: Sequence[Instance]) -> Matching:
        truth = true_instances(item)
        return match(
            [(each.label, each.box) for each in truth if not each.crowd],
            [(each.label, each.box) for each in found],
            crowds=[(each.label, each.box) for each in truth if each.crowd],
        )

    def perfect_reply(self, item: Item, box_format: str = "thousandths") -> str:
        width, height = item.target["size"]
        entries = [(each.label, each.box) for each in true_instances(item) if not each.crowd]
        return write_boxes(entries, box_format, size=(width, height))

    def corpus_measures(self, scored: Sequence[Scored]) -> dict[str, float]:
        """mAP and its parts, precision and recall at 0.5, parse failures."""
        counts = {"matched": 0, "missed": 0, "extra": 0}
        for each in scored:
            if "found" not in each.score.details:
                counts["missed"] += sum(not one.crowd for one in true_instances(each.item))
            for name in counts:
                counts[name] += each.score.details.get(name, 0)
        return {
            **self.average_precision(scored),
            "precision": counts["matched"] / max(1, counts["matched"] + counts["extra"]),
            "recall": counts["matched"] / max(1, counts["matched"] + counts["missed"]),
            "parse_failure_rate": parse_failure_rate(scored),
        }
