"""How much boxes share, and which found box stands for which true one.

Knows no format, no task and no file; masks are in `masks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Labelled = tuple[str, Sequence[float]]


def intersection_over_union(first: Sequence[float], second: Sequence[float]) -> float:
    """Of two boxes (left, top, right, bottom) in any one unit."""
    shared = _shared(first, second)
    return shared / (_area(first) + _area(second) - shared) if shared else 0.0


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Found boxes against true ones.

    Attributes:
        pairs: (true, found) by index; every box is in one pair at most.
        missed: true boxes without a pair.
        extra: found boxes without one, those inside a crowd left out.
    """

    pairs: tuple[tuple[int, int], ...]
    missed: tuple[int, ...]
    extra: tuple[int, ...]

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 where there was nothing to find and nothing was found."""
        total = 2 * len(self.pairs) + len(self.missed) + len(self.extra)
        return 2 * len(self.pairs) / total if total else 1.0


def match(
    truth: Sequence[Labelled],
    found: Sequence[Labelled],
    *,
    threshold: float = 0.5,
    crowds: Sequence[Labelled] = (),
) -> Matching:
    """Pairs of one label with an intersection over union of at least `threshold`, the best overlaps first.

    Args:
        crowds: regions of many objects that nobody counted: what lies in one (by its own area) is neither right nor
            wrong, as in COCO's evaluation.
    """
    overlaps = [
        (intersection_over_union(true_box, box), i, j)
        for i, (true_label, true_box) in enumerate(truth)
        for j, (label, box) in enumerate(found)
        if label == true_label
    ]
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for overlap, i, j in sorted(overlaps, key=lambda each: (-each[0], each[1], each[2])):
        if overlap >= threshold and i not in pairs and j not in taken:
            pairs[i] = j
            taken.add(j)
    extra = [
        j
        for j, (label, box) in enumerate(found)
        if j not in taken
        and not any(label == name and _inside(box, crowd, threshold) for name, crowd in crowds)
    ]
    missed = [i for i in range(len(truth)) if i not in pairs]
    return Matching(pairs=tuple(sorted(pairs.items())), missed=tuple(missed), extra=tuple(extra))


def _inside(box: Sequence[float], crowd: Sequence[float], threshold: float) -> bool:
    return _shared(box, crowd) >= threshold * _area(box)


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _shared(first: Sequence[float], second: Sequence[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return width * height if width > 0 and height > 0 else 0.0
