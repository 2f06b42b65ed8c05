"""The table of methods that drop tokens inside the language model.

Owns names, papers and what each needs. Imports no torch.
"""

from __future__ import annotations

from typing import Any

from foveate.reduce.info import ReducerInfo
from foveate.reduce.needs import Needs

LAST_TOKEN = Needs(question=True, language="attention of the last token")


def _language(name: str, module: str, attribute: str, **facts: Any) -> ReducerInfo:
    return ReducerInfo(
        name=name, home=f"foveate.reduce.language.{module}:{attribute}", stage="language", **facts
    )


LANGUAGE_METHODS: tuple[ReducerInfo, ...] = (
    _language(
        "fastv",
        "fastv",
        "FastV",
        paper="FastV, Chen et al. 2024",
        arxiv="2403.06764",
        rule="after two of 32 layers, top k by the last token's attention",
        headline="LLaVA-1.5-13B: 45 % fewer FLOPs; first token 0.203 to 0.124 s on an A100 with 75 % dropped",
        needs=LAST_TOKEN,
        instead=("fastervlm",),
    ),
    _language(
        "pyramiddrop",
        "pyramiddrop",
        "PyramidDrop",
        paper="PyramidDrop, Xing et al. 2024",
        arxiv="2410.17247",
        rule="cuts at 1/4, 1/2 and 3/4 of the depth by the last token's attention",
        headline="LLaVA-NeXT: 55 % fewer FLOPs",
        needs=LAST_TOKEN,
        instead=("fastervlm",),
    ),
    _language(
        "sparsevlm",
        "sparsevlm",
        "SparseVLM",
        paper="SparseVLM, Zhang et al. 2024 (version 1.5)",
        arxiv="2410.04417",
        rule="three cuts by the attention of the words that are like the image; losers are clustered and averaged",
        headline="about 93 % of the score at 78 % fewer tokens, 61 to 67 % fewer FLOPs",
        needs=Needs(question=True, language="attention of the text"),
        instead=("visionzip",),
    ),
    _language(
        "dart",
        "dart",
        "Dart",
        paper="DART, Wen et al. 2025",
        arxiv="2502.11494",
        rule="after layer 2 of 32, tokens least like 4 visual and 4 text pivots of largest key norm",
        headline="88.9 % fewer tokens: 1.99 × in total, 2.99 × in the prefill",
        needs=Needs(question=True, language="keys and hidden states"),
        instead=("divprune",),
    ),
    _language(
        "mustdrop",
        "mustdrop",
        "MustDrop",
        paper="MustDrop, Liu et al. 2024",
        arxiv="2411.10803",
        rule="four cuts of what no text token looks at, salient tokens protected; dropped from earlier caches too",
        headline="LLaVA-1.5-7B keeps 88.6 % at 64 tokens (later papers' tables)",
        needs=Needs(salience="any", question=True, language="attention of the text"),
        instead=("vispruner",),
    ),
    _language(
        "vscan_stage2",
        "vscan",
        "VScanStage2",
        paper="VScan, Zhang et al. 2025 (stage 2)",
        arxiv="2505.22654",
        rule="half way up, top k by the last token's attention; goes with `vscan` before the language model",
        headline="LLaVA-NeXT-7B keeps 95.4 % at 2.91 × prefill, with its stage 1",
        needs=LAST_TOKEN,
        instead=("vscan",),
    ),
)
