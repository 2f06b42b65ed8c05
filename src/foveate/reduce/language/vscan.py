"""VScan, stage 2 (Zhang et al. 2025, arXiv 2505.22654): in the middle of the language model, top k by the last token.

Score: attention of the prompt's last token, mean over heads, with queries and keys of the layer at the cut (16 of
32) on its own input. Under M-RoPE they are compared without rotary positions, as the authors do for Qwen2.5-VL.

Stage 1 is the method `vscan` before the language model; the authors run both: `reduce_further(model, reduced,
method, k)` with what `vscan` made (96 tokens, of which 32 stay from layer 16 on, is a mean of 64).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

from foveate.reduce.base import require
from foveate.reduce.language.base import LanguageConfig, LanguageReducer
from foveate.reduce.language.view import View
from foveate.reduce.needs import Needs
from foveate.reduce.scoring import top_k
from foveate.reduce.tokens import Choice


@dataclass(frozen=True, kw_only=True)
class VScanStage2Config(LanguageConfig):
    """rotary: whether scores are of turned queries and keys: "yes", "no", or "default", no under M-RoPE."""

    rotary: Literal["default", "yes", "no"] = "default"

    def __post_init__(self) -> None:
        super().__post_init__()
        require("rotary", self.rotary, ("default", "yes", "no"))


class VScanStage2(LanguageReducer):
    """Top k by the last token's attention, half way up."""

    name = "vscan_stage2"
    needs = Needs(question=True, language="attention of the last token")
    Config = VScanStage2Config
    config: VScanStage2Config
    cut_shares: ClassVar[tuple[Fraction, ...]] = (Fraction(1, 2),)
    looks: ClassVar[Literal["before", "at"]] = "at"

    def choose_inside(self, view: View, k: int) -> Choice:
        rotary = not view.m_rope if self.config.rotary == "default" else self.config.rotary == "yes"
        scores = view.last_row(rotary=rotary)[None]
        return Choice(kept=top_k(scores, k), scores=scores)
