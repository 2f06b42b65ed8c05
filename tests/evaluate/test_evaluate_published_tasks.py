"""Public data sets in their published formats, a fixture of each written here."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from foveate.evaluate.contract import BrokenItem, EvaluationError, Item, Reply, Scored
from foveate.evaluate.tasks.registry import get_task
from foveate.world import sample_scene


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (200, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def lines(*rows: object) -> str:
    return "\n".join(json.dumps(row) for row in rows) + "\n"


def scored(task, item, text):
    reply = Reply(text=text)
    return Scored(item=item, reply=reply, score=task.score(item, reply))


def picture(item):
    return next(part["image"] for part in item.messages[0]["content"] if part["type"] == "image")


def test_pope(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    rows = [
        {"question_id": 1, "image": "a.png", "text": "Is there a dog in the image?", "label": "yes"},
        {"question_id": 2, "image": "a.png", "text": "Is there a cat in the image?", "label": "no"},
        {"question_id": 3, "image": "a.png", "text": "Is there a cow in the image?", "label": "perhaps"},
        {"question_id": 4, "text": "Is there a cow in the image?", "label": "no"},
    ]
    (tmp_path / "coco_pope_random.json").write_text(lines(*rows))
    (tmp_path / "coco_pope_popular.json").write_text(lines(rows[0]))
    task = get_task("pope", data=str(tmp_path), negatives="random")
    first, second, *broken = task.items()
    assert isinstance(first, Item) and first.id == "1" and first.cluster == second.cluster == "a.png"
    assert picture(first).open().size == (20, 10)
    assert [type(each) for each in broken] == [BrokenItem] * 2 and "perhaps" in broken[0].reason
    measures = task.corpus_measures([scored(task, first, "Yes."), scored(task, second, "Yes, a cat.")])
    assert measures == pytest.approx({"precision": 0.5, "recall": 1, "f1": 2 / 3, "yes_ratio": 1})
    with pytest.raises(EvaluationError, match="negatives"):
        get_task("pope", negatives="rare")


def test_popes_negatives_in_the_world_share_as_much_as_they_say():
    for negatives, shared in (("random", 0), ("popular", 1), ("adversarial", 2)):
        items = list(get_task("pope", count=20, negatives=negatives).items())
        assert sum(item.target == "yes" for item in items) == 10
        for no in (item for item in items if item.target == "no"):
            scene = sample_scene("shapes", "test", int(no.cluster))
            colour, shape = no.messages[0]["content"][1]["text"].removesuffix(" in the image?").split()[-2:]
            own = any((o.colour, o.shape) == (colour, shape) for o in scene.objects)
            assert not own and shared == any(o.colour == colour for o in scene.objects) + any(
                o.shape == shape for o in scene.objects
            )
