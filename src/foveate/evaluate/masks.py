"""Masks as COCO keeps them: run lengths, from polygons or arrays, and what two of them share.

Polygons are filled by COCO's own rule (pycocotools), for truth and replies alike, so that filling cannot favour one.
Knows no format of replies and no task.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from foveate.evaluate.boxes import Polygon, Size

RunLengths = dict[str, Any]  # {"size": [height, width], "counts": text}, JSON-ready


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


def union(masks: Sequence[RunLengths], size: Size) -> RunLengths:
    """Every pixel that any of them has; an empty mask where there are none."""
    return _text(coco_mask.merge([_packed(m) for m in masks])) if masks else from_polygons([], size)


def areas(truth: RunLengths, found: RunLengths) -> tuple[int, int]:
    """Pixels of the intersection and of the union."""
    pair = [_packed(truth), _packed(found)]
    return int(coco_mask.area(coco_mask.merge(pair, intersect=True))), int(
        coco_mask.area(coco_mask.merge(pair))
    )


def area(mask: RunLengths) -> int:
    """Its pixels."""
    return int(coco_mask.area(_packed(mask)))


def _is_flat_polygon(part: Any) -> bool:
    numbers = isinstance(part, list) and all(isinstance(v, (int, float)) for v in part)
    return numbers and len(part) >= 6 and len(part) % 2 == 0


def _packed(mask: RunLengths) -> dict[str, Any]:
    return {"size": mask["size"], "counts": mask["counts"].encode("ascii")}


def _text(packed: dict[str, Any]) -> RunLengths:
    return {"size": [int(v) for v in packed["size"]], "counts": packed["counts"].decode("ascii")}
