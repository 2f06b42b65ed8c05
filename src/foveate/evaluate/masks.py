"""Masks as COCO keeps them: run lengths, from polygons or arrays, and what two of them share.

Polygons are filled by COCO's own rule (pycocotools), for truth and replies alike, so that filling cannot favour one.
Knows no format of replies and no task.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from foveate.evaluate.boxes import Polygon, Size

RunLengths = dict[str, Any]  # {"size": [height, width], "counts": text}, JSON-ready
_COUNTABLE = 2**32  # pixels: pycocotools counts them in 32 bits
# Pixels: pycocotools walks along a polygon's edges, and along one without an end it never comes back.
_FAR = 2**20


def from_array(pixels: np.ndarray) -> RunLengths:
    """Of a [H, W] array of booleans."""
    return _text(coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8)))


def from_polygons(polygons: Iterable[Polygon], size: Size) -> RunLengths:
    """The union of polygons with corners from 0 to 1 on a picture of this width and height."""
    width, height = size
    flat = [[c for x, y in polygon for c in (x * width, y * height)] for polygon in polygons]
    if not flat:
        return from_array(np.zeros((height, width), dtype=bool))
    return _text(coco_mask.merge(coco_mask.frPyObjects(flat, height, width)))


def from_coco(segmentation: Any, size: Size) -> RunLengths:
    """An annotation's `segmentation`: polygons in pixels, or run lengths, packed or not.

    Raises:
        ValueError: neither of these, or for a picture of another size.
    """
    width, height = size
    if width * height >= _COUNTABLE:
        raise ValueError(f"a picture of {width} x {height}")
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        if segmentation.get("size") != [height, width] or not isinstance(counts, (str, list)):
            raise ValueError(
                f"run lengths of size {segmentation.get('size')} on a picture of {[height, width]}"
            )
        if isinstance(counts, str):  # decoded once: pycocotools checks packed run lengths only there
            return from_array(to_array({"size": [height, width], "counts": counts}))
        if not all(isinstance(n, int) and n >= 0 for n in counts) or sum(counts) != width * height:
            raise ValueError("run lengths that do not cover the picture")
        return _text(coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width))
    whole = isinstance(segmentation, list) and segmentation
    if not whole or not all(_is_flat_polygon(part) for part in segmentation):
        raise ValueError("a segmentation that is neither polygons nor run lengths")
    return _text(coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width)))


def to_array(mask: RunLengths) -> np.ndarray:
    """[H, W] of booleans."""
    return coco_mask.decode(_packed(mask)).astype(bool)


def to_polygon(mask: RunLengths) -> Polygon:
    """One outline along the edges of pixels, corners from 0 to 1; empty for an empty mask.

    Holes and separate parts hang on bridges of no width, which even-odd filling does not see, so one object stays one
    polygon.
    """
    pixels = np.pad(to_array(mask), 1)
    height, width = mask["size"]
    loops = [_corners(loop) for loop in _loops(_edges(pixels))]
    path = [point for loop in loops for point in (*loop, loop[0])]
    path += [loop[0] for loop in reversed(loops[:-1])]
    return tuple((x / width, y / height) for x, y in path)


Corner = tuple[int, int]


def _edges(pixels: np.ndarray) -> dict[Corner, list[Corner]]:
    """From each corner of the padded picture to the next ones along the boundary, the inside on the right."""
    ends: dict[Corner, list[Corner]] = {}
    sides = (  # neighbour's direction (row, column), then start and end of the edge as (x, y) from the pixel's corner
        ((-1, 0), (0, 0), (1, 0)),
        ((0, 1), (1, 0), (1, 1)),
        ((1, 0), (1, 1), (0, 1)),
        ((0, -1), (0, 1), (0, 0)),
    )
    for direction, start, end in sides:
        beyond = np.roll(pixels, (-direction[0], -direction[1]), axis=(0, 1))
        for y, x in np.argwhere(pixels & ~beyond).tolist():
            corner = (x - 1 + start[0], y - 1 + start[1])
            ends.setdefault(corner, []).append((x - 1 + end[0], y - 1 + end[1]))
    return ends


def _loops(ends: dict[Corner, list[Corner]]) -> Iterator[list[Corner]]:
    while ends:
        start = here = min(ends)
        loop = []
        while True:
            loop.append(here)
            following = ends[here].pop()
            if not ends[here]:
                del ends[here]
            here = following
            if here == start:
                break
        yield loop


def _corners(loop: list[Corner]) -> list[Corner]:
    """Without the points on straight runs; the first point stays, for bridges start there."""
    kept = [loop[0]]
    for before, point, after in zip(loop[:-1], loop[1:], [*loop[2:], loop[0]], strict=True):
        if (point[0] - before[0], point[1] - before[1]) != (after[0] - point[0], after[1] - point[1]):
            kept.append(point)
    return kept


def union(masks: Sequence[RunLengths], size: Size) -> RunLengths:
    """Every pixel that any of them has; an empty mask where there are none."""
    return _text(coco_mask.merge([_packed(m) for m in masks])) if masks else from_polygons([], size)


def area(mask: RunLengths) -> int:
    """Its pixels."""
    return int(coco_mask.area(_packed(mask)))


def _is_flat_polygon(part: Any) -> bool:
    # A comparison with nan is false.
    numbers = isinstance(part, list) and all(isinstance(v, (int, float)) and abs(v) < _FAR for v in part)
    return numbers and len(part) >= 6 and len(part) % 2 == 0


def _packed(mask: RunLengths) -> dict[str, Any]:
    return {"size": mask["size"], "counts": mask["counts"].encode("ascii")}


def _text(packed: dict[str, Any]) -> RunLengths:
    return {"size": [int(v) for v in packed["size"]], "counts": packed["counts"].decode("ascii")}
