"""Documents say what code and committed results say, and every path and command in them exists."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_SPEC = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
generate = importlib.util.module_from_spec(_SPEC)
sys.modules["generate_docs"] = generate
_SPEC.loader.exec_module(generate)


@pytest.mark.parametrize("path", generate.documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_generated_parts_are_in_step(path):
    text = path.read_text(encoding="utf-8")
    assert generate.refresh(text) == text, "run: make docs"


def test_a_stale_part_is_noticed():
    stale = "<!-- begin ls -->\n| old |\n<!-- end -->"
    assert "--families" in generate.refresh(stale)
    with pytest.raises(KeyError, match="no generated part"):
        generate.refresh("<!-- begin lss -->\n<!-- end -->")


@pytest.mark.parametrize("path", generate.documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_pictures_exist(path):
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target
