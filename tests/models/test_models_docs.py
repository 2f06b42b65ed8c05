"""docs/models.md says what the registry and the measured figures say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foveate.errors import ModelError
from foveate.models.registry import AS_VIDEO, FAMILIES, REFUSED, TEXT_ONLY, adapter_class, find_family
from foveate.models.table import render

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
RESULTS = json.loads((ROOT / "results" / "parity.json").read_text(encoding="utf-8"))


def test_figures_keep_the_bound() -> None:
    assert set(RESULTS["families"]) == {family.name for family in FAMILIES}
    for name, figures in RESULTS["families"].items():
        assert figures["greedy_mismatches"] == 0, name
        differences = [value for key, value in figures.items() if key.endswith("difference")]
        wanted = 4 + (find_family(name).videos == AS_VIDEO)
        assert len(differences) == wanted, name
        assert all(0 <= value <= RESULTS["tolerance"] for value in differences), name


def test_the_registry_knows_who_reads_videos() -> None:
    for family in (*FAMILIES, TEXT_ONLY):
        adapter = adapter_class(family)
        assert adapter.accepts_videos == (family.videos == AS_VIDEO), family.name
        assert adapter.accepts_images == (family.videos != REFUSED), family.name


def test_text_only_types_are_listed() -> None:
    assert all(name in DOCUMENT for name in TEXT_ONLY.model_types)


def test_family_without_figures_is_an_error() -> None:
    with pytest.raises(ModelError, match="no figures for llava"):
        render({**RESULTS, "families": {}})
