"""What the parity tests measure, and results/parity.json, which docs/models.md has its table from."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers

TOLERANCE = 1e-4
NEW_TOKENS = 16
RESULTS = Path(__file__).parents[2] / "results" / "parity.json"
COMMAND = (
    "python -m pytest tests/models/test_models_parity.py tests/models/test_models_video.py --write-parity"
)
# Variants of one family that exercise another path through it; their worst figure is the family's.
VARIANTS = {"paligemma2": "paligemma", "gemma3_crops": "gemma3"}

Figures = dict[str, dict[str, float]]


def note(measured: Figures, family: str, name: str, value: float) -> None:
    """Keeps the largest value seen of a figure."""
    figures = measured.setdefault(VARIANTS.get(family, family), {})
    figures[name] = max(figures.get(name, 0.0), value)


def write(measured: Figures) -> None:
    """Replaces the file."""
    rows = {
        "command": COMMAND,
        "dtype": "float32",
        "greedy_tokens": NEW_TOKENS,
        "tolerance": TOLERANCE,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "families": dict(sorted(measured.items())),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
