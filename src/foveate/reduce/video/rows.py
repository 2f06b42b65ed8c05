"""The table of the methods over frames: where each is, which paper it is from, what it needs.

Owns facts alone. Imports no torch.
"""

from __future__ import annotations

from typing import Any

from foveate.reduce.info import ReducerInfo
from foveate.reduce.needs import Needs


def _ours(name: str, attribute: str, **facts: Any) -> ReducerInfo:
    return ReducerInfo(name=name, home=f"foveate.reduce.video.{name}:{attribute}", stage="video", **facts)


VIDEO_METHODS: tuple[ReducerInfo, ...] = (
    _ours(
        "evs",
        "EVS",
        paper="EVS: Efficient Video Sampling, Bagrov et al. 2025",
        arxiv="2510.14624",
        rule="the first frame whole; of the others the tokens that changed most since the frame before",
        headline="up to 4 × lower time to first token of the language model",
        needs=Needs(features=True),
    ),
    _ours(
        "vidcom2",
        "VidCom2",
        paper="VidCom², Liu et al. 2025",
        arxiv="2505.14454",
        rule="distinctive frames get more; in each the tokens least like the centres of video and frame",
        headline="LLaVA-OneVision-7B keeps 99.6 % at 25 % of tokens",
        needs=Needs(features=True),
    ),
    _ours(
        "dycoke",
        "DyCoke",
        paper="DyCoke, Tao et al. 2024 (temporal merging)",
        arxiv="2411.15024",
        rule="the first of four frames whole; of the others the tokens least like an earlier frame's",
        headline="LLaVA-OneVision-7B: VideoMME 58.5 to 58.3 at 43 % of FLOPs, with its decoding stage",
        needs=Needs(features=True),
    ),
    _ours(
        "fastvid",
        "FastVID",
        paper="FastVID, Shen et al. 2025",
        arxiv="2503.11187",
        rule="cut into scenes; in each frame the most salient, the rest merged into density peaks",
        headline="LLaVA-OneVision-7B keeps 98.0 % at 9.7 % of tokens, prefill 7.1 × faster",
        needs=Needs(salience="any", features=True),
    ),
    _ours(
        "prunevid",
        "PruneVid",
        paper="PruneVid, Huang et al. 2024 (before the language model)",
        arxiv="2412.16117",
        rule="cut into scenes; what stands still is averaged over time, then clusters become their means",
        headline="LLaVA-OneVision-7B: VideoMME 58.2 to 58.6 at 17 % of tokens, with its stage inside",
        needs=Needs(features=True),
    ),
    _ours(
        "holitom",
        "HoliTom",
        paper="HoliTom, Shao et al. 2025 (before the language model)",
        arxiv="2505.21334",
        rule="the cut into scenes that saves most; what stands still is clustered, the rest kept by salience",
        headline="LLaVA-OneVision-7B keeps 100.2 % at 15 % of tokens",
        needs=Needs(salience="any", features=True),
    ),
)
