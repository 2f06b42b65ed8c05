"""MustDrop (Liu et al. 2024, arXiv 2411.10803): what no text token looks at goes, in four cuts, and from the cache.

Cuts behind layers 2, 6, 10 and 14 of 32. The authors drop a token where both the sum of the text's attention to it
(mean over heads) is below g of the sum over all visual tokens, and its largest entry is below i. Their thresholds
leave as many tokens as the picture says; here both are scaled together until exactly the planned number stays:
tokens are ranked by the larger of sum / (g · total) and largest / i. The 8 % of tokens of largest tower salience
are protected: they go last. At the end earlier layers' caches forget what is gone.

Differences: thresholds scaled to a count; the tower's row is that of the layer the model reads, or the column mean
where it has no CLS token; text is that behind the image; the merging of 3 x 3 windows inside the tower is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch

from foveate.errors import ReductionError
from foveate.reduce.language.base import LanguageConfig, LanguageReducer
from foveate.reduce.language.view import View
from foveate.reduce.needs import Needs
from foveate.reduce.scoring import mask_of, stable_order, top_k
from foveate.reduce.tokens import Choice


@dataclass(frozen=True, kw_only=True)
class MustDropConfig(LanguageConfig):
    """Attributes:
    total_share, largest: the thresholds g and i; only their ratio matters.
    protected: share of an image's tokens, rounded down, that go last.
    """

    total_share: float = 0.001
    largest: float = 0.001
    protected: float = 0.08

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("total_share", "largest"):
            if getattr(self, name) <= 0:
                raise ReductionError(f"{name} is {getattr(self, name)}", why="a threshold is above 0")
        if not 0 <= self.protected <= 1:
            raise ReductionError(f"protected is {self.protected}", why="it is a share, from 0 to 1")


class MustDrop(LanguageReducer):
    """Tokens that neither all of the text nor any word of it looks at go first."""

    name = "mustdrop"
    needs = Needs(salience="any", question=True, language="attention of the text")
    Config = MustDropConfig
    config: MustDropConfig
    cut_shares: ClassVar[tuple[Fraction, ...]] = tuple(Fraction(layer, 32) for layer in (3, 7, 11, 15))
    trims_cache = True

    def prepare(self, image: torch.Tensor, text: torch.Tensor, salience: torch.Tensor | None) -> torch.Tensor:
        """[N] booleans: the protected tokens."""
        assert salience is not None, "the method declares salience"
        count = int(self.config.protected * len(image))
        return mask_of(top_k(salience[None], count), len(image))[0]

    def choose_inside(self, view: View, k: int) -> Choice:
        assert view.prepared is not None
        rows = view.attention(view.text)
        sums = rows.sum(dim=0)
        scores = torch.maximum(
            sums / (self.config.total_share * sums.sum()), rows.amax(dim=0) / self.config.largest
        )
        order = stable_order(scores[None])
        protected = view.prepared[view.ids][order[0]].to(torch.uint8)
        return Choice(kept=order[:, stable_order(protected[None])[0, :k]], scores=scores[None])
