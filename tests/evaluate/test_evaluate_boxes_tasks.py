"""Detection, segmentation and referring: on the world, on published formats, with replies good and bad."""

from __future__ import annotations

import itertools
import json

import pytest
from PIL import Image

from foveate.errors import FoveateError
from foveate.evaluate.contract import BrokenItem, EvaluationError, Item, Reply, Scored
from foveate.evaluate.corruptions import CORRUPTIONS, LOOKS, Corruption
from foveate.evaluate.tasks.detection import Detection
from foveate.evaluate.tasks.instances import seen_size
from foveate.evaluate.tasks.referring import Referring
from foveate.evaluate.tasks.scenarios import SCENARIOS, staged
from foveate.evaluate.tasks.segmentation import Segmentation

FORMATS = ("hundredths", "thousandths", "json-pixels", "gemini")


def answered(task, replies=None, **settings):
    """Items with a perfect reply each, or with the replies given."""
    items = list(task.items())
    texts = replies or [task.perfect_reply(item, **settings) for item in items]
    made = [
        (item, Reply(text=text, box_format=settings.get("box_format", "thousandths")))
        for item, text in zip(items, itertools.cycle(texts), strict=False)
    ]
    return [Scored(item=item, reply=reply, score=task.score(item, reply)) for item, reply in made]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("ask", ["one", "all"])
def test_perfect_boxes_score_one_in_every_scenario(scenario, ask):
    task = Detection(scenario=scenario, ask=ask, count=3)
    scored = answered(task)
    assert len(scored) == 3 and all(each.score.outcome == "correct" for each in scored)
    measures = task.corpus_measures(scored)
    assert measures["precision"] == measures["recall"] == 1 and measures["parse_failure_rate"] == 0
    if any(each.item.target["instances"] for each in scored):
        assert measures["mAP" if ask == "all" else "mAP_asked"] > 0.9


@pytest.mark.parametrize("box_format", FORMATS)
def test_any_box_format_can_be_perfect(box_format):
    for task in (Detection(count=2, ask="all"), Segmentation(count=2), Referring(count=2)):
        assert all(each.score.outcome == "correct" for each in answered(task, box_format=box_format))


def test_pixels_count_what_the_model_saw_where_all_of_the_picture_was_resized():
    item = next(iter(Detection(count=1).items()))
    width, height = item.target["size"]
    sent = {"width": width, "height": height}
    resized = {**sent, "processed_width": 2 * width, "processed_height": 3 * height}
    whole = {**resized, "frame": [0.0, 0.0, float(width), float(height)]}
    padded = {**resized, "frame": [0.0, -5.0, float(width), height + 5.0]}
    sizes = [seen_size(item, Reply(text="", pictures=(one,))) for one in (sent, whole, padded)]
    assert sizes == [(width, height), (2 * width, 3 * height), (width, height)]


def test_scenarios_are_what_they_say():
    first = {name: next(staged(name, 20, difficulty=2, severity=3)) for name in SCENARIOS}
    assert len(first["dense"].named) >= 27
    assert all(0.01 < o.radius < 0.04 for _, o in first["small-objects"].named)
    assert set(first["open-vocabulary"].present) <= {"purple heart", "yellow cross", "green ring"}
    fine = first["fine-grained"]
    assert not set(fine.absent) & set(fine.present)
    for absent in fine.absent:
        assert any(
            sum(a != b for a, b in zip(absent.split(), p.split(), strict=True)) == 1 for p in fine.present
        )
    assert len(first["few-shot"].examples) == 4
    pictures = {name: one.picture().open() for name, one in first.items()}
    assert pictures["dense"].size == (504, 504) and pictures["closed-set"].size == (168, 168)
    seeds = {one.scene.seed for one in first.values()}
    assert len(seeds) == len(first), "scenarios share no scene"


def test_boxes_lie_on_the_drawn_objects():
    from foveate.world import render

    for name in ("dense", "small-objects"):
        one = next(staged(name, 20, difficulty=1, severity=3))
        drawing = render(one.scene, one.size)
        for _, item in one.named:
            left, top, right, bottom = drawing.visible_box(item.id)
            expected = [v * one.size for v in item.box()]
            assert all(abs(a - b) <= 2 for a, b in zip((left, top, right, bottom), expected, strict=True))


def detected(text, *, ask="one", classes=None, count=1, **settings):
    task = Detection(ask=ask, count=40, **settings)
    item = next(i for i in task.items() if len(i.target["instances"]) == count)
    boxes = [[round(1000 * v) for v in one["box"]] for one in item.target["instances"]]
    text = text.format(*boxes, name=item.target["classes"][0])
    return task.score(item, Reply(text=text))


def test_detection_counts_what_is_extra_and_missing():
    assert detected("{}").outcome == "correct"
    assert detected("The {name} is at {}.").outcome == "correct"
    extra = detected("{}; [1, 1, 40, 40]")
    assert extra.outcome == "wrong" and extra.value == pytest.approx(2 / 3) and extra.details["extra"] == 1
    missing = detected("{}", count=2)
    assert missing.value == pytest.approx(2 / 3) and missing.details["missed"] == 1
    unknown = detected("unicorn {}")
    assert unknown.outcome == "wrong" and unknown.details["unknown_labels"] == ["unicorn"]
    assert detected("none").outcome == "wrong"
    broken = detected("{}; [3, 4")
    assert broken.outcome == "unparsed" and "cannot read" in broken.details["broken"][0]
    assert detected("I'm sorry, I cannot see the image.").outcome == "refused"


def test_an_absent_class_is_answered_by_nothing():
    task = Detection(count=60)
    item = next(i for i in task.items() if "absent" in i.tags)
    assert task.score(item, Reply(text="none")).outcome == "correct"
    assert task.score(item, Reply(text=f"there is no {item.target['classes'][0]}")).outcome == "correct"
    assert task.score(item, Reply(text="[1, 2, 300, 400]")).value == 0
    assert task.score(item, Reply(text="There is no image provided.")).outcome == "refused"
    assert task.score(item, Reply(text="There are no clear boundaries.")).outcome == "unparsed"


def test_replies_that_cannot_be_read_find_nothing_and_are_counted():
    task = Detection(count=4, ask="all")
    perfect = [task.perfect_reply(item) for item in task.items()]
    measures = task.corpus_measures(answered(task, [perfect[0], "[[", perfect[2], "[["]))
    assert measures["parse_failure_rate"] == 0.5
    assert measures["precision"] == 1 and 0.2 < measures["recall"] < 0.8
    truth, results = task.coco_json(answered(task))
    assert len(truth["images"]) == 4 and len(results) == len(truth["annotations"])
    json.dumps([truth, results])


@pytest.mark.parametrize("kind", [Detection, Segmentation])
def test_a_picture_is_as_dense_as_all_that_it_shows(kind):
    """One star among thirty shapes stands in a crowded picture, though only one object is asked for."""
    task = kind(scenario="dense", count=4)
    measures = task.corpus_measures(answered(task))
    assert measures["mAP_many_asked"] > 0.9
    assert not {"mAP_few_asked", "mAP_several_asked"} & set(measures)


def test_the_density_of_a_published_picture_counts_every_class_and_the_measure_says_what_was_asked(tmp_path):
    folder = coco_folder(tmp_path)
    path = tmp_path / "annotations" / "instances_val2017.json"
    data = json.loads(path.read_text())
    first = data["annotations"][0]
    newts = [{**first, "id": 100 + n, "category_id": 99} for n in range(7)]
    data["categories"].append({"id": 99, "name": "newt"})
    path.write_text(json.dumps({**data, "annotations": [first, *newts], "images": data["images"][:1]}))
    one, every = (Detection(data=folder, ask=ask) for ask in ("one", "all"))
    asked, whole = one.corpus_measures(answered(one)), every.corpus_measures(answered(every))
    assert "mAP_several_asked" in asked and "mAP_few_asked" not in asked and "mAP" not in asked
    assert "mAP_several" in whole and "mAP_asked" not in whole


@pytest.mark.parametrize("difficulty", [1, 3])
def test_perfect_outlines_give_the_pixels_back(difficulty):
    task = Segmentation(count=3, ask="all", difficulty=difficulty)
    scored = answered(task, box_format="unit")
    assert all(each.score.value > 0.97 for each in scored)
    measures = task.corpus_measures(scored)
    assert min(measures["mIoU"], measures["FB-IoU"], measures["AP50"]) > 0.97


def test_segmentation_measures_by_hand():
    task = Segmentation(count=1, ask="one")
    (item,) = [next(i for i in Segmentation(count=50).items() if len(i.target["instances"]) == 1)]
    left, top, right, bottom = item.target["instances"][0]["box"]
    middle = (left + right) / 2
    half = [[left, top], [middle, top], [middle, bottom], [left, bottom]]
    text = json.dumps([[round(1000 * v) for v in point] for point in half])
    score = task.score(item, Reply(text=text))
    assert 0.2 < score.value < 0.6
    (scored,) = [Scored(item=item, reply=Reply(text=text), score=score)]
    measures = task.corpus_measures([scored])
    assert measures["mIoU"] == pytest.approx(score.value)
    assert measures["mIoU"] < measures["FB-IoU"] < 1, "the background is nearly right"
    nothing = Scored(item=item, reply=Reply(text="?"), score=task.score(item, Reply(text="?")))
    measures = task.corpus_measures([nothing])
    assert measures["mIoU"] == 0 and measures["parse_failure_rate"] == 1 and 0.3 < measures["FB-IoU"] < 0.5


def test_crowds_do_not_count_in_segmentation(tmp_path):
    folder = coco_folder(tmp_path)
    path = tmp_path / "annotations" / "instances_val2017.json"
    data = json.loads(path.read_text())
    data["annotations"].append(
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [0, 0, 200, 50], "iscrowd": 1, "area": 10000,
         "segmentation": {"size": [100, 200], "counts": [0] + [50] * 399 + [50]}}
    )  # fmt: skip
    path.write_text(json.dumps(data))
    task = Segmentation(data=folder)
    item = next(task.items())
    perfect = task.score(item, Reply(text=task.perfect_reply(item)))
    assert perfect.outcome == "correct" and perfect.value == 1
    more = task.score(
        item, Reply(text="[[100, 100], [300, 100], [300, 400], [100, 400]]; [[500, 0], [900, 0], [900, 400]]")
    )
    assert more.value == 1, "what lies in the crowd is neither right nor wrong"


def test_referring_measures_and_double_answers():
    task = Referring(count=2)
    items = list(task.items())
    first = [round(1000 * v) for v in items[0].target["box"]]
    wide = [first[0], first[1], first[2], first[1] + round((first[3] - first[1]) * 0.6)]
    assert task.score(items[0], Reply(text=str(first))).outcome == "correct"
    assert task.score(items[0], Reply(text=f"{first} and {first}")).outcome == "correct"
    two = task.score(items[0], Reply(text=f"{first} or [1, 2, 3, 4]"))
    assert two.outcome == "unparsed" and "2 boxes" in two.details["broken"][0]
    measures = task.corpus_measures(answered(task, [str(wide), "?"]))
    assert measures["Acc@0.5"] == 0.5 and measures["Acc@0.7"] == 0 and measures["parse_failure_rate"] == 0.5
    assert measures["mIoU"] == pytest.approx(0.3, abs=0.02)


def coco_folder(tmp_path):
    """COCO 2017's layout: annotations/instances_val2017.json with val2017/ beside it."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    Image.new("RGB", (200, 100), "grey").save(tmp_path / "val2017" / "000000000007.jpg")
    data = {
        "images": [
            {"id": 7, "file_name": "000000000007.jpg", "width": 200, "height": 100},
            {"id": 8, "file_name": "000000000008.jpg", "width": 200},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [20, 10, 40, 30], "area": 1200, "iscrowd": 0,
             "segmentation": [[20, 10, 60, 10, 60, 40, 20, 40]]},
            {"id": 2, "image_id": 7, "category_id": 18, "bbox": [100, 50, 100, 50], "area": 5000, "iscrowd": 0,
             "segmentation": [[100, 50, 200, 50, 200, 100, 100, 100]]},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
    }  # fmt: skip
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(data))
    return str(tmp_path)


@pytest.mark.parametrize("kind", [Detection, Segmentation])
def test_published_coco_is_asked_and_scored(kind, tmp_path):
    task = kind(data=coco_folder(tmp_path), ask="all")
    item, broken = task.items()
    assert isinstance(item, Item) and "person, car, dog" in item.messages[0]["content"][-1]["text"]
    assert isinstance(broken, BrokenItem) and "height None" in broken.reason
    assert item.messages[0]["content"][0]["image"].open().size == (200, 100)
    reply = Reply(text=task.perfect_reply(item, "json-pixels"), box_format="json-pixels")
    assert task.score(item, reply).outcome == "correct"
    sent_smaller = Reply(
        text=task.perfect_reply(item, "unit").replace("none", ""),
        box_format="unit",
        pictures=({"width": 50, "height": 25},),
    )
    assert task.score(item, sent_smaller).outcome == "correct"
    singles = [i for i in kind(data=coco_folder_again(tmp_path)).items() if isinstance(i, Item)]
    assert [i.id for i in singles] == ["000000000007.jpg person", "000000000007.jpg dog"]
    assert {i.cluster for i in singles} == {"000000000007.jpg"}


def coco_folder_again(tmp_path):
    return str(tmp_path / "annotations" / "instances_val2017.json")


def test_pixels_are_those_of_the_picture_that_was_sent(tmp_path):
    task = Detection(data=coco_folder(tmp_path))
    item = next(task.items())
    half = Reply(text="[10, 5, 30, 20]", box_format="pixels", pictures=({"width": 100, "height": 50},))
    assert task.score(item, half).outcome == "correct"


def test_a_missing_picture_fails_when_it_is_opened_not_before(tmp_path):
    task = Detection(data=coco_folder(tmp_path))
    (tmp_path / "val2017" / "000000000007.jpg").unlink()
    item = next(task.items())
    with pytest.raises(FoveateError):
        item.messages[0]["content"][0]["image"].open()


def test_published_refcoco_in_both_layouts(tmp_path):
    """Qwen-VL's refcoco_val.jsonl, and lmms-lab/RefCOCO after `to_json`."""
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    rows = [
        {"image": "a.png", "sent": "the left dog", "bbox": [20, 10, 60, 40], "height": 100, "width": 200},
        {"question_id": "5", "image": {"bytes": None, "path": "a.png"}, "answer": ["dog", "left one"],
         "bbox": [20, 10, 40, 30], "question": "Describe the region.", "iscrowd": 0},
        {"image": "a.png", "sent": "no box", "height": 100, "width": 200},
        {"image": "gone.png", "answer": ["dog"], "bbox": [20, 10, 40, 30]},
        {"image": "a.png", "sent": "dog", "bbox": [20, None, 60, 40], "height": 100, "width": 200},
        {"image": "a.png", "sent": "outside", "bbox": [20, 10, 600, 40], "height": 100, "width": 200},
    ]  # fmt: skip
    path = tmp_path / "refcoco_val.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\nnot json\n")
    task = Referring(data=str(path))
    items = list(task.items())
    good = [i for i in items if isinstance(i, Item)]
    assert [i.messages[0]["content"][1]["text"] for i in good] == [
        "Where is the left dog? Give its box.",
        "Where is dog? Give its box.",
        "Where is left one? Give its box.",
    ]
    assert all(i.target["box"] == [0.1, 0.1, 0.3, 0.4] for i in good)
    assert len({i.id for i in items}) == 8 and sum(isinstance(i, BrokenItem) for i in items) == 5


@pytest.mark.parametrize("name", [*CORRUPTIONS, *LOOKS])
def test_corruptions_keep_the_size_follow_their_seed_and_grow(name):
    picture = next(staged("closed-set", 20, difficulty=2, severity=3)).picture().open()
    worse = [Corruption(name=name, severity=severity).apply(picture) for severity in (1, 5)]
    assert all(one.size == picture.size and one.mode == "RGB" for one in worse)
    assert Corruption(name=name, severity=1).apply(picture).tobytes() == worse[0].tobytes()
    assert worse[0].tobytes() != picture.tobytes()
    if name in CORRUPTIONS:
        assert distance(picture, worse[1]) > distance(picture, worse[0])


def distance(first, second):
    import numpy as np

    return np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int)).mean()


def test_unknown_settings_name_the_nearest():
    with pytest.raises(EvaluationError, match="Did you mean 'dense'"):
        Detection(scenario="densed")
    with pytest.raises(EvaluationError, match="neither one nor all"):
        Detection(ask="every")
    with pytest.raises(EvaluationError, match="severity"):
        Corruption(name="jpeg", severity=6)
