"""What the task needs beside its YAML file: the picture, the question, and whether a reply is the true answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

PICTURES = Path(__file__).parents[1]


def doc_to_visual(doc: Mapping[str, Any]) -> list[Image.Image]:
    """The one picture of a row."""
    return [Image.open(PICTURES / doc["image"]).convert("RGB")]


def doc_to_text(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, Any] | None = None) -> str:
    """The question as it stands: fovea-nano needs no instruction."""
    return doc["question"]


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """1 where the whole reply is the answer."""
    return {"exact_match": float(results[0].strip() == doc["answer"])}
