"""VPBench's two tasks and the world's marker question: exact truth, published formats, one wording for every style."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from foveate.errors import MediaError
from foveate.evaluate.contract import BrokenItem, EvaluationError, Item, Picture, Reply
from foveate.evaluate.perturb.markers import LOOKS, draw_markers
from foveate.evaluate.tasks.vpbench_correspondence import SemanticCorrespondence
from foveate.evaluate.tasks.vpbench_depth import RelativeDepth
from foveate.evaluate.tasks.vpbench_markers import MarkedObjects
from foveate.world import render, sample_scene
from foveate.world.marked import overlapping_pair, second_view, visible_point
from foveate.world.scene import Scene


def parts(item: Item) -> tuple[list[Picture], str]:
    content = item.messages[0]["content"]
    return [p["image"] for p in content if p["type"] == "image"], content[-1]["text"]


def scene_of(item: Item, stretch: int) -> Scene:
    return sample_scene("shapes", "test", int(item.id.split("-")[1]), difficulty=3)


def picture(folder: Path, name: str, size: tuple[int, int] = (120, 80)) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 90)).save(path)


# -- the world ------------------------------------------------------------------------------------------


def test_the_nearer_of_a_pair_hides_a_part_of_the_other() -> None:
    found = 0
    for index in range(3_500_000, 3_500_040):
        scene = sample_scene("shapes", "test", index, difficulty=3)
        pair = overlapping_pair(scene)
        if pair is None:
            continue
        found += 1
        near, far = pair
        rendering = render(scene)
        for one in pair:
            point = visible_point(rendering, one.id)
            assert point is not None
            x, y = (int(value * 168) for value in point)
            assert rendering.ids[y, x] == one.id, "the marked point shows the object that is meant"
        alone = render(Scene(domain="shapes", seed=0, background=scene.background, objects=(far,)))
        hidden = alone.mask(far.id) & rendering.mask(near.id)
        assert hidden.sum() >= 0.06 * alone.mask(far.id).sum()
        assert rendering.depth[hidden].max() < far.depth
    assert found >= 5


def test_a_second_view_has_the_same_shapes_elsewhere_in_other_colours() -> None:
    import random

    scene = sample_scene("shapes", "test", 3_550_001, difficulty=3)
    other = second_view(scene, random.Random(0))
    assert other is not None
    assert [(o.id, o.shape, o.size) for o in other.objects] == [
        (o.id, o.shape, o.size) for o in scene.objects
    ]
    assert all(a.colour != b.colour for a, b in zip(scene.objects, other.objects, strict=True))
    assert {(o.x, o.y) for o in other.objects}.isdisjoint((o.x, o.y) for o in scene.objects)
    assert second_view(scene, random.Random(0)) == other


def test_letters_are_not_all_alike_and_styles_change_neither_truth_nor_place() -> None:
    for kind, letters in ((RelativeDepth, "AB"), (SemanticCorrespondence, "ABCD"), (MarkedObjects, "ABC")):
        items = list(kind(count=16).items())
        assert len(items) == 16
        counts = [sum(i.target["answer"] == letter for i in items) for letter in letters]
        assert all(0 < count < 13 for count in counts), (kind, counts)
        square = list(kind(count=16, marker_style="square").items())
        assert [(i.id, i.target) for i in square] == [(i.id, i.target) for i in items]
        before, after = parts(items[0])[0][0].open(), parts(square[0])[0][0].open()
        changed = (np.asarray(before) != np.asarray(after)).any(-1)
        assert 0 < changed.mean() < 0.1


def test_the_wording_follows_the_marker() -> None:
    for style, look in LOOKS.items():
        depth = parts(next(iter(RelativeDepth(count=1, marker_style=style).items())))[1]
        assert f"marked with a {look.shape} each" in depth
        assert ("(A) 1 is closer" if style == "digits" else "(A) A is closer") in depth
        match = parts(next(iter(SemanticCorrespondence(count=1, marker_style=style).items())))[1]
        assert f"a {look.colour} {look.shape} each" in match
    (numbered,) = MarkedObjects(count=1, marker_style="digits").items()
    (lettered,) = MarkedObjects(count=1).items()
    assert numbered.target["answer"] == str("ABCD".index(lettered.target["answer"]) + 1)
    assert parts(numbered)[1] == parts(lettered)[1]


def test_offsets_of_the_marker_question_share_no_picture() -> None:
    first = {i.id for i in MarkedObjects(count=8).items()}
    assert first.isdisjoint({i.id for i in MarkedObjects(count=8, offset=1000).items()})


# -- scoring --------------------------------------------------------------------------------------------


def depth_item(**settings: Any) -> tuple[RelativeDepth, Item]:
    task = RelativeDepth(count=1, **settings)
    return task, next(iter(task.items()))


def outcome(task: RelativeDepth, item: Item, text: str) -> str:
    return task.score(item, Reply(text=text)).outcome


def test_options_move_on_and_their_letters_count() -> None:
    task, item = depth_item()
    shifted_task, shifted = depth_item(option_shift=1)
    right = item.target["answer"]
    other = "B" if right == "A" else "A"
    assert shifted.target["answer"] == other
    assert shifted.target["options"][other] == item.target["options"][right]
    assert outcome(shifted_task, shifted, f"({other})") == "correct"
    assert outcome(shifted_task, shifted, f"{right} is closer") == "correct", "an option's text is its option"
    assert outcome(task, item, f"{other}.") == "wrong"
    assert outcome(task, item, "Point A or point B") == "unparsed"
    assert outcome(task, item, "I cannot see the image") == "refused"
    assert depth_item(option_shift=2)[1].target == item.target


def test_a_numbered_marker_may_be_named_by_its_number() -> None:
    task, item = depth_item(marker_style="digits")
    number = str("AB".index(item.target["answer"]) + 1)
    assert outcome(task, item, number) == "correct"
    assert outcome(task, item, item.target["answer"]) == "correct"
    assert outcome(task, item, "3") == "unparsed"


# -- published formats ----------------------------------------------------------------------------------


@pytest.fixture
def depth_release(tmp_path: Path) -> Path:
    """VPBench's BLINK_depth_data/depth (its loader's columns, release of December 2025) with rows gone wrong."""
    rows: list[Any] = [
        {"original_image": "a.jpg", "point_A": [10, 50], "point_B": [100.5, 70], "human_answer_2": "B"},
        {"original_image": "a.jpg", "point_A": [10, 50], "point_B": [100, 70], "human_answer_2": "C"},
        {"original_image": "a.jpg", "point_A": [10], "point_B": [100, 70], "human_answer_2": "A"},
        {"original_image": "a.jpg", "point_A": [10, 50], "human_answer_2": "A"},
        {"original_image": "a.jpg", "point_A": [10, 5000], "point_B": [100, 70], "human_answer_2": "A"},
        {"original_image": "gone.jpg", "point_A": [10, 50], "point_B": [100, 70], "human_answer_2": "A"},
        "a row that is none",
    ]
    picture(tmp_path, "images/a.jpg")
    (tmp_path / "perceptioneval_depth_dev.json").write_text(json.dumps(rows[:1]))
    (tmp_path / "perceptioneval_depth_test.json").write_text(json.dumps(rows))
    return tmp_path


def test_vpbench_depth_rows(depth_release: Path) -> None:
    found = list(RelativeDepth(data=str(depth_release)).items())
    assert len(found) == 8
    broken = [each for each in found if isinstance(each, BrokenItem)]
    assert [each.reason.split(" ")[0] for each in broken] == ["human_answer_2", "a", "no", "not"]
    assert len({each.id for each in found}) == len(found)
    first = found[0]
    assert isinstance(first, Item)
    assert (first.target["answer"], first.cluster) == ("B", "a.jpg")
    shown = np.asarray(parts(first)[0][0].open())
    for x, y in ((10, 50), (100, 70)):
        near = shown[y - 7 : y + 8, x - 7 : x + 8]
        assert ((near == (255, 0, 0)).all(-1)).sum() > 20, "a red ring around the point"
    outside, gone = (each for each in found[-3:] if isinstance(each, Item))
    with pytest.raises(MediaError, match=r"point A.*\(10, 5000\) lies outside 120 x 80"):
        parts(outside)[0][0].open()
    with pytest.raises(MediaError):
        parts(gone)[0][0].open()
    only = list(RelativeDepth(data=str(depth_release / "perceptioneval_depth_dev.json")).items())
    assert [each.id for each in only] == [found[0].id]


def test_da2k_has_its_letters_dealt(tmp_path: Path) -> None:
    """DA-2K's annotations.json (release of June 2024): points are (vertical, horizontal), and point1 is nearer."""
    pair = {"point1": [20, 100], "point2": [60, 10], "closer_point": "point1"}
    files = {f"images/indoor_{n:02}.jpg": [pair, pair] for n in range(10)}
    for name in files:
        picture(tmp_path, name)
    broken = {"images/aerial_1.jpg": [{"point1": [1, 1]}, 3], "images/aerial_2.jpg": "none"}
    (tmp_path / "annotations.json").write_text(json.dumps(files | broken))
    found = list(RelativeDepth(data=str(tmp_path)).items())
    assert sum(isinstance(each, BrokenItem) for each in found) == 3
    items = [each for each in found if isinstance(each, Item)]
    letters = [item.target["answer"] for item in items]
    assert 5 < letters.count("A") < 15, "an answer that is always A could be guessed"
    assert {item.tags for item in items} == {("indoor",)}
    plain = Image.open(tmp_path / "images/indoor_00.jpg").convert("RGB")
    for letter, other in ("AB", "BA"):
        shown = parts(next(i for i in items if i.target["answer"] == letter))[0][0].open()
        points = {letter: (100.0, 20.0), other: (10.0, 60.0)}
        assert (
            shown.tobytes() == draw_markers(plain, dict(sorted(points.items())), LOOKS["default"]).tobytes()
        )


def correspondence_row(**changes: Any) -> dict[str, Any]:
    return {
        "images": ["000001-2008_01-2009_02:cat_1", "000001-2008_01-2009_02:cat_2"],
        "blink_image1_size": [240, 160],
        "blink_image2_size": [480, 320],
        "gold_point": 1,
        "real_consider_points": [3, 0, 2, 1],
        "src_kps": [[1, 1], [60, 40]],
        "trg_kps": [[10, 40], [50, 60], [90, 30], [110, 70]],
        "real_answer": "(D)",
    } | changes


def test_vpbench_correspondence_rows(tmp_path: Path) -> None:
    """VPBench's semantic_corr_raw_fixed.json (its loader's columns), which SPair-71k's part shares."""
    rows = [
        correspondence_row(),
        correspondence_row(gold_point=9),
        correspondence_row(real_consider_points=[0, 1, 2]),
        correspondence_row(images=["cat.jpg", "dog.jpg"]),
        correspondence_row(real_answer="E"),
        correspondence_row(blink_image2_size=[1, 1]),
        correspondence_row(trg_kps=None),
    ]
    picture(tmp_path, "images/cat/2008_01.jpg")
    picture(tmp_path, "images/cat/2009_02.jpg")
    (tmp_path / "semantic_corr_raw_fixed.json").write_text(json.dumps({"val": rows, "test": rows[:1]}))
    found = list(SemanticCorrespondence(data=str(tmp_path)).items())
    assert [each.id for each in found] == [*(f"val:{n}" for n in range(7)), "test:0"]
    assert [type(each) for each in found] == [Item, *[BrokenItem] * 6, Item]
    item = found[0]
    assert isinstance(item, Item)
    assert (item.target["answer"], item.tags) == ("D", ("cat",))
    first, second = (p.open() for p in parts(item)[0])
    assert (first.size, second.size) == ((120, 80), (240, 160)), "half of BLINK's sizes"
    red = (np.asarray(second) == (255, 0, 0)).all(-1)
    assert red[160 // 2 - 20 :, 200:].sum() > 20, (
        "points move along with the size: (110, 70) is at (220, 140)"
    )
    assert (np.asarray(first) == (255, 0, 0)).all(-1)[30:50, 50:70].sum() > 20


def test_data_that_is_not_there_is_told(tmp_path: Path) -> None:
    for kind in (RelativeDepth, SemanticCorrespondence):
        with pytest.raises(EvaluationError, match=r"perceptioneval_depth_dev|semantic_corr"):
            list(itertools.islice(kind(data=str(tmp_path)).items(), 1))
    with pytest.raises(EvaluationError, match="'diamond'"):
        RelativeDepth(marker_style="diamonds")
    (tmp_path / "semantic_corr_raw_fixed.json").write_text("[1]")
    with pytest.raises(EvaluationError, match="val and test"):
        list(SemanticCorrespondence(data=str(tmp_path)).items())
