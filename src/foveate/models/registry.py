"""The families this room can load: model_type -> adapter, with paper, code licence, salience and positions.

Imports no torch and no transformers, so that `foveate ls` and error messages are quick.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foveate.errors import ModelError

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

CLS_ROW = "CLS row"
COLUMN_MEAN = "column mean"
ONE_DIMENSION = "1-D"
M_ROPE = "M-RoPE"
AS_VIDEO = "video"
AS_PICTURES = "frames as pictures"
REFUSED = "refused"


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
        videos: what becomes of a video in a prompt: "video", "frames as pictures", "refused".
        resizes: whether its tower takes smaller pictures than the processor makes.
        plain_decoder: whether every language layer is causal over all tokens: no sliding windows, no tokens that
            see each other both ways.
    """

    name: str
    model_types: tuple[str, ...]
    adapter: str
    paper: str
    licence: str = "Apache-2.0"
    salience: str = COLUMN_MEAN
    positions: str = ONE_DIMENSION
    videos: str = AS_PICTURES
    resizes: bool = False
    plain_decoder: bool = True


FAMILIES: tuple[FamilyInfo, ...] = (
    FamilyInfo(
        name="llava",
        model_types=("llava",),
        adapter="llava:Llava",
        paper="LLaVA-1.5, arXiv 2310.03744",
        salience=CLS_ROW,
        resizes=True,
    ),
    FamilyInfo(
        name="llava_next",
        model_types=("llava_next",),
        adapter="llava_next:LlavaNext",
        paper="LLaVA-NeXT, llava-vl.github.io/blog/2024-01-30-llava-next",
        salience=CLS_ROW,
    ),
    FamilyInfo(
        name="llava_onevision",
        model_types=("llava_onevision",),
        adapter="llava_onevision:LlavaOnevision",
        paper="LLaVA-OneVision, arXiv 2408.03326",
        videos=AS_VIDEO,
    ),
    FamilyInfo(
        name="qwen2_vl",
        model_types=("qwen2_vl",),
        adapter="qwen2_vl:Qwen2VL",
        paper="Qwen2-VL, arXiv 2409.12191",
        positions=M_ROPE,
        resizes=True,
        videos=AS_VIDEO,
    ),
    FamilyInfo(
        name="qwen2_5_vl",
        model_types=("qwen2_5_vl",),
        adapter="qwen2_5_vl:Qwen25VL",
        paper="Qwen2.5-VL, arXiv 2502.13923",
        positions=M_ROPE,
        resizes=True,
        videos=AS_VIDEO,
    ),
    FamilyInfo(
        name="qwen3_vl",
        model_types=("qwen3_vl",),
        adapter="qwen3_vl:Qwen3VL",
        paper="Qwen3-VL, arXiv 2511.21631",
        positions=M_ROPE,
        resizes=True,
        videos=AS_VIDEO,
    ),
    FamilyInfo(
        name="idefics3",
        model_types=("idefics3",),
        adapter="idefics3:Idefics3",
        paper="Idefics3, arXiv 2408.12637",
    ),
    FamilyInfo(
        name="smolvlm",
        model_types=("smolvlm",),
        adapter="idefics3:SmolVLM",
        paper="SmolVLM, arXiv 2504.05299",
    ),
    FamilyInfo(
        name="internvl",
        model_types=("internvl",),
        adapter="internvl:InternVL",
        paper="InternVL3, arXiv 2504.10479",
        salience=CLS_ROW,
        videos=AS_VIDEO,
    ),
    FamilyInfo(
        name="paligemma",
        model_types=("paligemma",),
        adapter="paligemma:PaliGemma",
        paper="PaliGemma, arXiv 2407.07726; PaliGemma 2, arXiv 2412.03555",
        plain_decoder=False,
    ),
    FamilyInfo(
        name="gemma3",
        model_types=("gemma3",),
        adapter="gemma3:Gemma3",
        paper="Gemma 3, arXiv 2503.19786",
        plain_decoder=False,
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
    videos=REFUSED,
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
    # Stricter than for words people type: another architecture's name is rarely a misspelling of ours.
    close = difflib.get_close_matches(model_type, supported, n=1, cutoff=0.8)
    raise ModelError(
        f"Model type {model_type!r} has no adapter",
        why=f"supported are {', '.join(supported)}, and text-only {', '.join(TEXT_ONLY.model_types)}",
        fix=f"Did you mean {close[0]!r}?" if close else "See docs/models.md for how to add a family.",
    )


def adapter_class(family: FamilyInfo) -> type[VisionLanguageModel]:
    """Imports the family's adapter (and with it torch)."""
    module, _, name = family.adapter.partition(":")
    return getattr(importlib.import_module(f"foveate.models.families.{module}"), name)
