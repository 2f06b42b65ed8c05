"""Tiny checkpoints of each family, built once a session and loaded by us and by plain transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import parity_figures
import pytest
import tiny
import torch
import transformers

from foveate.models import load


@dataclass
class Pair:
    """One checkpoint, loaded twice."""

    folder: Path
    ours: Any
    theirs: Any


@pytest.fixture(scope="session")
def measured(request: pytest.FixtureRequest) -> Iterator[parity_figures.Figures]:
    """Figures per family, the worst of all cases; written at the end where asked for."""
    figures: parity_figures.Figures = {}
    yield figures
    if request.config.getoption("--write-parity"):
        parity_figures.write(figures)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Family -> folder of its tiny checkpoint."""
    built: dict[str, Path] = {}
    root = tmp_path_factory.mktemp("tiny")

    def build(family: str) -> Path:
        if family not in built:
            built[family] = tiny.build_tiny(family, root / family)
        return built[family]

    return build


@pytest.fixture(scope="session")
def pair_of(tiny_folder: Callable[[str], Path]) -> Callable[[str], Pair]:
    """Family -> the checkpoint under our contract and under plain transformers with eager attention."""
    pairs: dict[str, Pair] = {}

    def make(family: str) -> Pair:
        if family not in pairs:
            folder = tiny_folder(family)
            recipe = {**tiny.FAMILIES, **tiny.TEXT_FAMILIES}[family]
            auto = getattr(transformers, recipe.auto)
            theirs = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
            pairs[family] = Pair(folder, load(folder, device="cpu"), theirs)
        return pairs[family]

    return make
