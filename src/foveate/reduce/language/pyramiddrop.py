"""PyramidDrop (Xing et al. 2024, arXiv 2410.17247): fewer tokens a quarter of the layers at a time.

Cuts at 1/4, 1/2 and 3/4 of the depth. Score: attention of the prompt's last token, mean over heads, with the
queries and keys of the layer at the cut on its own input; that layer then reads the survivors alone. With the
authors' setting, half at each cut, the mean over 32 layers is 270 of 576 tokens; other budgets change the ratio of
the series. Gaps in 1-D positions close up, in the answer too.

Differences: each image is cut on its own, where the released code cuts the first alone.
"""

from __future__ import annotations

from fractions import Fraction
from typing import ClassVar, Literal

from foveate.reduce.language.base import LanguageReducer
from foveate.reduce.language.view import View
from foveate.reduce.needs import Needs
from foveate.reduce.scoring import top_k
from foveate.reduce.tokens import Choice


class PyramidDrop(LanguageReducer):
    """Top k by the last token's attention, in stages."""

    name = "pyramiddrop"
    needs = Needs(question=True, language="attention of the last token")
    cut_shares: ClassVar[tuple[Fraction, ...]] = (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))
    looks: ClassVar[Literal["before", "at"]] = "at"

    def choose_inside(self, view: View, k: int) -> Choice:
        scores = view.last_row()[None]
        return Choice(kept=top_k(scores, k), scores=scores)
