"""The export of pictures' columns: what it writes is read with the pixels that were published."""

from __future__ import annotations

import io
import json
import runpy
from pathlib import Path

from PIL import Image

from foveate.evaluate.published import picture_from

EXPORT = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "export_dataset.py"), run_name="export")
PIXELS = Image.linear_gradient("L").resize((40, 30)).convert("RGB")


def test_a_column_of_pictures_is_read_back_with_its_pixels(tmp_path):
    data = io.BytesIO()
    PIXELS.save(data, "PNG")
    (tmp_path / "apart.png").write_bytes(data.getvalue())
    row = {
        "question": "What?",
        "image": {"bytes": data.getvalue(), "path": "a.png"},
        "apart": {"bytes": None, "path": str(tmp_path / "apart.png")},
        "image_2": None,
        "several": [{"bytes": data.getvalue(), "path": None}],
    }
    read = json.loads(json.dumps(EXPORT["plain"](row)))
    assert read["question"] == "What?" and read["image_2"] is None
    for column in (read["image"], read["apart"], *read["several"]):
        assert picture_from(column, tmp_path / "elsewhere").open().tobytes() == PIXELS.tobytes()
