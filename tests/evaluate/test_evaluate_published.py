"""Rows of published files: every kind, broken rows named, pictures in every form."""

from __future__ import annotations

import base64
import io
import json

import pytest
from PIL import Image

from foveate.errors import MediaError
from foveate.evaluate.contract import BrokenItem, EvaluationError, user
from foveate.evaluate.published import column, data_file, picture_from, read_rows
from foveate.evaluate.run.records import messages_digest


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def test_json_lines_and_the_broken_among_them(tmp_path):
    file = tmp_path / "test.jsonl"
    file.write_text('{"a": 1}\n\n{"a": \n[1]\n{"a": 2}\n')
    rows = list(read_rows(file))
    assert [row for _, row in rows if isinstance(row, dict)] == [{"a": 1}, {"a": 2}]
    broken = [row for _, row in rows if isinstance(row, BrokenItem)]
    assert [row.id for row in broken] == ["test.jsonl:3", "test.jsonl:4"]
    assert "not JSON" in broken[0].reason and "object" in broken[1].reason


def test_a_list_an_object_with_a_list_and_lines_named_json(tmp_path):
    file = tmp_path / "test.json"
    for text, key in (
        ('[{"a": 1}]', None),
        ('{"data": [{"a": 1}]}', "data"),
        ('{"a": 1}\n{"a": 1}', None),
        ('{"a": 1}', None),
    ):
        file.write_text(text)
        assert {row["a"] for _, row in read_rows(file, key=key)} == {1}
    for text, key in (("nonsense", None), ('{"data": 3}', "data"), ("3", None)):
        file.write_text(text)
        with pytest.raises(EvaluationError, match=r"test\.json"):
            list(read_rows(file, key=key))


def test_tables_with_long_cells_and_wrong_lines(tmp_path):
    file = tmp_path / "test.tsv"
    long = "x" * 200_000
    file.write_text(f"index\timage\n1\t{long}\n2\n3\ta\tb\n4\td\n")
    rows = dict(read_rows(file))
    assert rows["test.tsv:2"] == {"index": "1", "image": long}
    assert rows["test.tsv:5"] == {"index": "4", "image": "d"}
    assert [place for place, row in rows.items() if isinstance(row, BrokenItem)] == [
        "test.tsv:3",
        "test.tsv:4",
    ]


def test_the_file_is_found_or_its_absence_told(tmp_path):
    (tmp_path / "b.jsonl").write_text("")
    assert data_file(str(tmp_path), ("a.jsonl", "*.jsonl")).name == "b.jsonl"
    with pytest.raises(EvaluationError, match=r"No a\.json"):
        data_file(str(tmp_path), ("a.json",))
    with pytest.raises(EvaluationError, match="no data"):
        data_file(str(tmp_path / "absent.json"), ())
    (tmp_path / "a.parquet").write_text("")
    with pytest.raises(EvaluationError, match="export_dataset"):
        data_file(str(tmp_path / "a.parquet"), ())


def test_pictures_in_every_form(tmp_path):
    (tmp_path / "p.png").write_bytes(png(200))
    encoded = base64.b64encode(png(200)).decode()
    for value in (
        "p.png",
        {"path": "p.png"},
        encoded,
        {"bytes": encoded},
        f"data:image/png;base64,{encoded}",
    ):
        assert picture_from(value, tmp_path).open().getpixel((0, 0)) == (200, 0, 0)
    for value in (None, 3, "", {}):
        with pytest.raises(ValueError, match="picture"):
            picture_from(value, tmp_path)
    for missing in ("absent.png", "a/" * 60 + "absent.png", base64.b64encode(b"x" * 90).decode()):
        with pytest.raises(MediaError):
            picture_from(missing, tmp_path).open()


def test_pictures_inside_a_column_are_named_by_what_they_are(tmp_path):
    one, other = (base64.b64encode(png(red)).decode() for red in (200, 100))
    for form in ("{}", "data:image/png;base64,{}"):
        names = [picture_from(form.format(encoded), tmp_path).name for encoded in (one, other, one)]
        assert names[0] == names[2] != names[1] and len(names[0]) < 40
    first, changed, same = (
        messages_digest([user(picture_from({"bytes": encoded}, tmp_path), "Which?")])
        for encoded in (one, other, one)
    )
    assert first == same != changed


def test_a_column_by_any_of_its_names():
    row = json.loads('{"a": "", "b": 0}')
    assert column(row, "a", "b") == 0
    with pytest.raises(ValueError, match="no a or c"):
        column(row, "a", "c")
