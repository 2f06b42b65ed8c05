"""Claims by name, imported only when asked for; a test sweeps every entry.

To add one: a file in this package with a subclass of `Claim`, and a line here.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from foveate.claims.base import Claim, ClaimError
from foveate.errors import nearest


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where a claim lives ("module:Class" below `foveate.claims`) and whose claim it is."""

    target: str
    system: str


CLAIMS: dict[str, Entry] = {
    "codec": Entry(target="codec:CodecMoves", system="VPBench"),
    "aqua-overconfidence": Entry(target="aqua_confidence:Overconfidence", system="AQuA"),
    "aqua-pruning": Entry(target="aqua_confidence:PrunedConfidence", system="AQuA"),
    "fastervlm-tokens": Entry(target="fastervlm_tokens:TokensByTheClsRow", system="FasterVLM"),
    "hired-tiles": Entry(target="hired_tiles:TileBudgets", system="HiRED"),
    "hired-speed": Entry(target="hired_speed:HiredSpeed", system="HiRED"),
    "inference-optimal": Entry(target="inference_optimal:TokenExponents", system="QueCC"),
    "language-methods": Entry(target="language_methods:LanguageMethods", system="LLMC+"),
    "llmc-protocol": Entry(target="llmc_protocol:CompressionProtocol", system="LLMC+"),
    "llmc-redundancy": Entry(target="llmc_redundancy:Redundancy", system="LLMC+"),
    "reduction-speed": Entry(target="reduction_speed:ReductionSpeed", system="FasterVLM"),
    "specvlm": Entry(target="specvlm:DraftedReplies", system="SpecVLM"),
    "streaming-window": Entry(target="streaming_window:StreamingWindow", system="StreamingVLM"),
    "video-methods": Entry(target="video_methods:VideoMethods", system="LLMC+"),
    "vpbench-markers": Entry(target="vpbench_markers:MarkersReorder", system="VPBench"),
    "xllm-batching": Entry(target="xllm_batching:BatchingAndCaches", system="xLLM"),
}


def get(name: str) -> Claim:
    """The claim of this name, imported.

    Raises:
        ClaimError: no such claim, naming the nearest.
    """
    if name not in CLAIMS:
        raise ClaimError(f"There is no claim {name!r}", fix=nearest(name, CLAIMS))
    module, attribute = CLAIMS[name].target.split(":")
    claim: Claim = getattr(importlib.import_module(f"foveate.claims.{module}"), attribute)()
    return claim


def of_system(system: str) -> list[str]:
    """Names of a system's claims."""
    return [name for name, entry in CLAIMS.items() if entry.system == system]
