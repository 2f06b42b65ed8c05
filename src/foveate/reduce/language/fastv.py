"""FastV (Chen et al. 2024, arXiv 2403.06764): after two layers, the tokens that the last one attends to most.

Score: attention of the prompt's last token in the layer before the cut, mean over heads. The choice is made once,
in the prefill, as in the authors' cached variant. Positions are kept.

Differences: the authors' K = 2 of 32 layers is a share of the model's depth, so a model of 6 layers is cut at layer
1 (`cuts=(2,)` says otherwise); each image is ranked on its own; only the scoring row is computed, never the map.
"""

from __future__ import annotations

from fractions import Fraction
from typing import ClassVar

from foveate.reduce.language.base import LanguageReducer
from foveate.reduce.language.view import View
from foveate.reduce.needs import Needs
from foveate.reduce.scoring import top_k
from foveate.reduce.tokens import Choice


class FastV(LanguageReducer):
    """Top k by the last token's attention."""

    name = "fastv"
    needs = Needs(question=True, language="attention of the last token")
    cut_shares: ClassVar[tuple[Fraction, ...]] = (Fraction(2, 32),)
    repacks = False

    def choose_inside(self, view: View, k: int) -> Choice:
        scores = view.last_row()[None]
        return Choice(kept=top_k(scores, k), scores=scores)
