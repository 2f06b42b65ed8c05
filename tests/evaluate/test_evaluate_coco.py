"""COCO's JSON read and written, and average precision held to cases worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.evaluate import masks
from foveate.evaluate.coco import (
    Annotated,
    Instance,
    average_precision,
    instances_json,
    read_instances,
    results_json,
)
from foveate.evaluate.contract import BrokenItem, EvaluationError
from foveate.evaluate.overlap import intersection_over_union, match

SIZE = (200, 100)
A, B, C = (0.0, 0.0, 0.4, 0.4), (0.5, 0.5, 0.9, 0.9), (0.0, 0.6, 0.3, 0.9)


def picture(*boxes, label="cat", name="a.png"):
    return Annotated(name=name, size=SIZE, instances=tuple(Instance(label=label, box=box) for box in boxes))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((A, B), 1.0),
        ((A, C), 51 / 101),  # right first: precision 1 up to recall 0.5, which 51 of 101 points reach
        ((C, A), 0.5 * 51 / 101),  # wrong first: precision 0.5 there
        ((C,), 0.0),
        ((), 0.0),
    ],
)
def test_average_precision_of_one_picture(found, expected):
    figures = average_precision([picture(A, B)], [picture(*found)], ["cat"])
    assert figures["AP50"] == pytest.approx(expected, abs=1e-9)
    assert figures["mAP_few"] == figures["mAP"] == pytest.approx(expected, abs=1e-9)


def test_a_loose_box_counts_at_low_thresholds_only():
    loose = (0.0, 0.0, 0.4, 0.4 / 0.72)  # overlaps by 0.72: right at 0.50 to 0.70, five of ten thresholds
    figures = average_precision([picture(A)], [picture(loose)], ["cat"])
    assert (figures["AP50"], figures["AP75"]) == (pytest.approx(1), 0)
    assert figures["mAP"] == pytest.approx(0.5)


def test_sizes_and_densities_are_told_apart_and_absent_ones_left_out():
    tiny = tuple((x / 20, 0.1, x / 20 + 0.03, 0.2) for x in range(18))
    truth = [picture(A), picture(*tiny, name="b.png")]
    figures = average_precision(truth, [picture(A), picture(name="b.png")], ["cat"])
    assert (
        figures["AP_medium"] == pytest.approx(1) and figures["AP_small"] == 0.0 and "AP_large" not in figures
    )
    assert (
        figures["mAP_few"] == pytest.approx(1) and figures["mAP_many"] == 0.0 and "mAP_several" not in figures
    )


def test_constant_scores_do_not_follow_the_order_of_the_pictures():
    right, wrong = (
        [picture(A, name=f"{n}.png") for n in range(40)],
        [picture(C, name=f"{n}.png") for n in range(40)],
    )
    truth = [picture(A, name=f"{n}.png") for n in range(80)]
    first = average_precision(truth, right + wrong, ["cat"], confidence="constant")["AP50"]
    last = average_precision(truth, wrong + right, ["cat"], confidence="constant")["AP50"]
    # Half are right: in the order of the file it would be 0.5 and 0.25.
    assert abs(first - last) < 0.15 and min(first, last) > 0.2 and max(first, last) < 0.45


def test_unknown_classes_are_left_out_and_crowds_forgive():
    crowd = Instance(label="cat", box=B, crowd=True)
    truth = Annotated(name="a", size=SIZE, instances=(Instance(label="cat", box=A), crowd))
    inside = (0.55, 0.55, 0.7, 0.7)
    assert average_precision([truth], [picture(A, inside)], ["cat"])["AP50"] == pytest.approx(1)
    assert results_json([picture(A, label="unicorn")], ["cat"]) == []
    assert match([("cat", A)], [("cat", A), ("cat", inside)], crowds=[("cat", B)]).extra == ()
    assert match([("cat", A)], [("cat", A), ("cat", inside)]).extra == (1,)


def test_matching_takes_the_best_overlap_once():
    better = (0.0, 0.0, 0.4, 0.38)
    worse = (0.0, 0.0, 0.4, 0.3)
    found = match([("cat", A), ("dog", B)], [("cat", worse), ("cat", better), ("cat", B)])
    assert found.pairs == ((0, 1),) and found.missed == (1,) and found.extra == (0, 2)
    assert found.f1 == pytest.approx(2 / 5)
    assert match([], []).f1 == 1.0
    assert intersection_over_union(A, B) == 0.0 and intersection_over_union(A, A) == 1.0


def instances(**changes):
    data = {
        "images": [{"id": 7, "file_name": "7.jpg", "width": 200, "height": 100}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [10, 20, 40, 30], "area": 600, "iscrowd": 0,
             "segmentation": [[10, 20, 50, 20, 50, 50]]},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 200, 100], "iscrowd": 1,
             "segmentation": {"size": [100, 200], "counts": [0, 20000]}},
        ],
    }  # fmt: skip
    return data | changes


def test_published_instances_are_read_and_written_back(tmp_path):
    """The layout of COCO 2017's annotations/instances_val2017.json."""
    path = tmp_path / "instances_val2017.json"
    path.write_text(json.dumps(instances()))
    labels, rows = read_instances(path)
    assert labels == ("car", "dog")
    (row,) = rows
    assert row.name == "7.jpg" and row.size == (200, 100)
    dog, cars = row.instances
    assert dog.box == (0.05, 0.2, 0.25, 0.5) and not dog.crowd and cars.crowd
    assert masks.area(dog.mask) == pytest.approx(600, rel=0.05) and masks.area(cars.mask) == 20000
    assert Instance.from_dict(json.loads(json.dumps(dog.to_dict()))) == dog
    again = instances_json(rows, labels)
    path.write_text(json.dumps(again))
    assert read_instances(path) == (labels, rows)
    assert again["annotations"][0]["bbox"] == [10, 20, 40, 30]
    figures = average_precision(rows, rows, labels, kind="segm")
    assert figures["mAP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"images": [{"id": 7, "width": 1, "height": 1}]}, "no file_name"),
        ({"images": [{"id": 7, "file_name": "7.jpg", "width": 0, "height": 1}]}, "width 0"),
        ({"annotations": [{"id": 5, "image_id": 7, "category_id": 99, "bbox": [0, 0, 1, 1]}]}, "no category 99"),
        ({"annotations": [{"id": 5, "image_id": 7, "category_id": [3], "bbox": [0, 0, 1, 1]}]}, "no category"),
        ({"annotations": [{"id": 5, "image_id": 7, "category_id": 3, "bbox": [0, 0, None, 1]}]}, "bbox"),
        ({"annotations": [{"id": 5, "image_id": 7, "category_id": 3, "bbox": [0, 0, 0, 1]}]}, "without area"),
        ({"annotations": [{"id": 5, "image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1],
                           "segmentation": [[1, 2]]}]}, "neither polygons"),
        ({"annotations": [{"id": 5, "image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1],
                           "segmentation": {"size": [100, 200], "counts": [5]}}]}, "do not cover"),
    ],
)  # fmt: skip
def test_a_broken_annotation_breaks_its_picture_only(tmp_path, change, reason):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(instances(**change)))
    (row,) = read_instances(path)[1]
    assert isinstance(row, BrokenItem) and reason in row.reason


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": [], "annotations": [], "categories": [{}]}'])
def test_a_file_of_another_format_is_refused(tmp_path, text):
    path = tmp_path / "instances.json"
    path.write_text(text)
    with pytest.raises(EvaluationError):
        read_instances(path)
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_instances(tmp_path / "nowhere.json")


def test_masks_from_polygons_match_arrays():
    square = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
    mask = masks.from_polygons([square], (80, 40))
    pixels = np.zeros((40, 80), dtype=bool)
    pixels[10:30, 20:60] = True
    assert np.array_equal(masks.to_array(mask), pixels)
    assert masks.from_array(pixels) == mask and masks.area(mask) == 800
    half = masks.from_polygons([((0.25, 0.25), (0.5, 0.25), (0.5, 0.75), (0.25, 0.75))], (80, 40))
    assert masks.area(half) == 400
    assert masks.area(masks.from_polygons([], (80, 40))) == 0 == masks.area(masks.union([], (80, 40)))
    assert masks.union([half, mask], (80, 40)) == mask


@given(st.integers(0, 2**20 - 1))
@settings(max_examples=80, deadline=None)
def test_any_mask_has_one_outline_that_fills_to_the_same_pixels(bits):
    pixels = np.zeros((12, 15), dtype=bool)
    pixels[1:11:2, 1:13:3] = pixels[2:12:2, 1:13:3] = np.array([bits >> n & 1 for n in range(20)]).reshape(
        5, 4
    )
    pixels[1:11:2, 2:14:3] |= pixels[1:11:2, 1:13:3]
    polygon = masks.to_polygon(masks.from_array(pixels))
    assert bool(polygon) == pixels.any()
    if polygon:
        assert np.array_equal(masks.to_array(masks.from_polygons([polygon], (15, 12))), pixels)


def test_a_ring_keeps_its_hole_and_separate_parts_stay_one_outline():
    pixels = np.zeros((40, 60), dtype=bool)
    pixels[5:30, 5:30] = True
    pixels[10:20, 10:20] = False
    pixels[35:38, 40:58] = True
    polygon = masks.to_polygon(masks.from_array(pixels))
    assert len(polygon) < 25
    assert np.array_equal(masks.to_array(masks.from_polygons([polygon], (60, 40))), pixels)
