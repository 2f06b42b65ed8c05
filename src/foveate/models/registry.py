"""The families this room can load: model_type -> adapter, with paper, code licence, salience and positions.

Imports no torch and no transformers, so that `foveate ls` and error messages are quick.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foveate.errors import ModelError, nearest

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

CLS_ROW = "CLS row"
COLUMN_MEAN = "column mean"
ONE_DIMENSION = "1-D"
M_ROPE = "M-RoPE"


@dataclass(frozen=True, kw_only=True)
class FamilyInfo:
    """One family.

    Attributes:
        name: our name of the family.
        model_types: values of `model_type` in config.json that it loads.
        adapter: "module:Class" below `foveate.models.families`.
        paper: where the architecture is described.
        licence: of the `transformers` model code used (a checkpoint's weights carry their own licence).
        salience: where the salience row comes from: "CLS row", "column mean", or "none".
        positions: "1-D" or "M-RoPE".
    """

    name: str
    model_types: tuple[str, ...]
    adapter: str
    paper: str
    licence: str = "Apache-2.0"
    salience: str = COLUMN_MEAN
    positions: str = ONE_DIMENSION


FAMILIES: tuple[FamilyInfo, ...] = (
    FamilyInfo(
        name="llava",
        model_types=("llava",),
        adapter="llava:Llava",
        paper="Liu et al. 2023, LLaVA-1.5, arXiv 2310.03744",
        salience=CLS_ROW,
    ),
)

# Decoder-only text models load too, so that "no image, please" can be said by name and text can be compared.
TEXT_ONLY = FamilyInfo(
    name="text",
    model_types=(
        "gemma",
        "gemma2",
        "gemma3_text",
        "llama",
        "mistral",
        "olmo2",
        "phi3",
        "qwen2",
        "qwen3",
        "smollm3",
    ),
    adapter="text:TextOnly",
    paper="decoder-only language models",
    salience="none",
)


def supported_families() -> list[FamilyInfo]:
    """Every family with an adapter, vision-language ones first."""
    return [*FAMILIES, TEXT_ONLY]


def find_family(model_type: str) -> FamilyInfo:
    """The family of a `model_type`.

    Raises:
        ModelError: no adapter; names the type and lists what is supported.
    """
    for family in supported_families():
        if model_type in family.model_types:
            return family
    supported = [name for family in FAMILIES for name in family.model_types]
    hint = nearest(model_type, [*supported, *TEXT_ONLY.model_types])
    raise ModelError(
        f"Model type {model_type!r} has no adapter",
        why=f"supported are {', '.join(supported)}, and text-only {', '.join(TEXT_ONLY.model_types)}",
        fix=hint if hint.startswith("Did") else "See docs/models.md for how to add a family.",
    )


def adapter_class(family: FamilyInfo) -> type[VisionLanguageModel]:
    """Imports the family's adapter (and with it torch)."""
    module, _, name = family.adapter.partition(":")
    return getattr(importlib.import_module(f"foveate.models.families.{module}"), name)
