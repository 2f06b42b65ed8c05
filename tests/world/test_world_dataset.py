"""Files written by `foveate world sample` read back as the same pictures and answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from foveate.errors import FoveateError
from foveate.world import MarkerStyle, make_example, render, sample_scene, write_dataset


def test_rows_point_at_pictures_and_follow_the_messages_convention(tmp_path):
    written = write_dataset(tmp_path, domain="shapes", split="test", count=12, questions=3, svg=True)
    rows = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    assert len(rows) == written >= 24
    for row in rows:
        picture = np.asarray(Image.open(tmp_path / row["images"][0]))
        assert picture.shape == (168, 168, 3)
        assert (tmp_path / row["images"][0]).with_suffix(".svg").exists()
        roles = [m["role"] for m in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert [part["type"] for part in row["messages"][0]["content"]] == ["image", "text"]
        assert all(part["type"] == "text" for m in row["messages"][1:] for part in m["content"])
        index = int(row["id"].split("-")[2])
        example = make_example("shapes", "test", index, questions=3)
        assert np.array_equal(picture, example.rendering.rgb)
    sheet = Image.open(tmp_path / "contact_sheet.png")
    assert sheet.width > 800 and sheet.height > 600


def test_a_data_set_is_never_overwritten(tmp_path):
    write_dataset(tmp_path, domain="page", split="train", count=2)
    before = (tmp_path / "train.jsonl").read_bytes()
    with pytest.raises(FoveateError, match="exists already"):
        write_dataset(tmp_path, domain="page", split="train", count=3)
    assert (tmp_path / "train.jsonl").read_bytes() == before


def test_an_unknown_family_is_named(tmp_path):
    with pytest.raises(FoveateError, match="Did you mean 'reading'"):
        write_dataset(tmp_path, domain="page", split="train", count=2, families=["readin"])
    assert not (tmp_path / "train.jsonl").exists()


def test_dialogues_say_it_only_about_one_object():
    later = 0
    for index in range(200):
        for dialogue in make_example("shapes", "train", index, questions=4).dialogues:
            if len(dialogue) == 2:
                later += 1
                item = next(
                    o
                    for o in sample_scene("shapes", "train", index).objects
                    if o.id == dialogue[0].object_ids[0]
                )
                assert dialogue[1].answer in (item.colour, item.shape, item.size, item.texture)
                assert dialogue[1].answer not in dialogue[0].text
    assert later > 20


@pytest.mark.parametrize(
    "change", [{"colour": "blue"}, {"shape": "square"}, {"radius": 0.05}, {"label_position": "below"}]
)
def test_marker_style_changes_the_picture_and_nothing_else(change):
    index = next(i for i in range(50) if sample_scene("shapes", "train", i).markers)
    plain = sample_scene("shapes", "train", index)
    styled = sample_scene("shapes", "train", index, marker_style=MarkerStyle(**change))
    assert styled.objects == plain.objects and styled.markers == plain.markers
    assert not np.array_equal(render(styled).rgb, render(plain).rgb)
