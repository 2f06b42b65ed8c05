"""SparseVLM 1.5 (Zhang et al. 2024, arXiv 2410.04417): words like the image choose, losers are recycled.

Raters, once, on the input embeddings: text tokens to which the image's tokens are similar above the average
(softmax over text of the products, mean over the image). Score: the raters' attention, mean over heads and raters,
in the layer before the cut (behind layers 2, 6 and 15 of 32). Of the pruned tokens the best 30 % and one more are
clustered by density peaks (DPC-KNN, Du et al. 2016) into a tenth as many and one more; each cluster becomes its
mean.

Differences: a cluster stands where its centre stood instead of behind the survivors; survivors and clusters
together are exactly the planned number; counts follow a geometric series instead of the authors' table for 576
tokens; text is that behind the image; density ties are broken by order instead of noise. The "+" variant is not
here.
"""

from __future__ import annotations

from fractions import Fraction
from typing import ClassVar

import torch

from foveate.reduce.language.base import LanguageReducer
from foveate.reduce.language.view import View
from foveate.reduce.merging import rows_of
from foveate.reduce.needs import Needs
from foveate.reduce.scoring import stable_order, top_k
from foveate.reduce.tokens import Choice

NEIGHBOURS = 5


def pool_size(pruned: int) -> int:
    """How many of the pruned tokens are recycled: 30 % and one more."""
    return min(pruned, 3 * pruned // 10 + 1)


def clusters(pool: int) -> int:
    """How many tokens a pool becomes: a tenth and one more."""
    return pool // 10 + 1


def survivors(count: int, k: int) -> int:
    """The most of `count` tokens that can stay as they are so that they and the clusters of the rest are k; k where
    there is no room for a cluster."""
    return max((s for s in range(1, k) if s + clusters(pool_size(count - s)) == k), default=k)


def density_peaks(vectors: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """DPC-KNN: ([count] centres, [m] which centre each of the vectors [m, D] belongs to).

    Density is exp(-mean squared distance to the nearest neighbours); centres have the largest product of density and
    distance to the nearest vector of higher density. Equal densities rank by order.
    """
    number = len(vectors)
    distance = torch.cdist(vectors[None].float(), vectors[None].float())[0] / vectors.shape[1] ** 0.5
    apart = distance.masked_fill(torch.eye(number, dtype=torch.bool, device=distance.device), float("inf"))
    near = apart.topk(min(NEIGHBOURS, number - 1), largest=False).values if number > 1 else apart[:, :0]
    density = torch.exp(-near.square().mean(dim=1)) if number > 1 else torch.ones(1, device=distance.device)
    rank = torch.empty(number, dtype=torch.long, device=distance.device)
    rank[stable_order(density[None])[0]] = torch.arange(number, device=distance.device)
    denser = rank[None] < rank[:, None]
    nearest = distance.masked_fill(~denser, float("inf")).amin(dim=1)
    separation = torch.where(rank == 0, distance.amax(), nearest)
    centres = top_k((density * separation)[None], count)[0]
    member = distance[:, centres].argmin(dim=1)
    member[centres] = torch.arange(count, device=distance.device)
    return centres, member


class SparseVLM(LanguageReducer):
    """Top tokens by the raters' attention, and clusters of the best of the rest."""

    name = "sparsevlm"
    needs = Needs(question=True, language="attention of the text")
    cut_shares: ClassVar[tuple[Fraction, ...]] = tuple(Fraction(layer, 32) for layer in (3, 7, 16))

    def prepare(self, image: torch.Tensor, text: torch.Tensor, salience: torch.Tensor | None) -> torch.Tensor:
        """[t] booleans: the raters."""
        relevance = (image.float() @ text.float().T).softmax(dim=1).mean(dim=0)
        raters = relevance > relevance.mean()
        return raters if bool(raters.any()) else torch.ones_like(raters)  # all alike: all rate

    def choose_inside(self, view: View, k: int) -> Choice:
        assert view.prepared is not None
        scores = view.attention(view.text[view.prepared]).mean(dim=0)[None]
        order = stable_order(scores)[0]
        stay = survivors(len(order), k)
        if stay == k:
            return Choice(kept=order[None, :k], scores=scores)
        pool = order[stay : stay + pool_size(len(order) - stay)]
        centres, member = density_peaks(view.hidden[view.image[pool]], k - stay)
        share = 1.0 / torch.bincount(member, minlength=k - stay)
        kept = torch.cat([order[:stay], pool[centres]])
        merge = rows_of((pool[centres][member][None], pool[None], share[member][None]))
        return Choice(kept=kept[None], scores=scores, merge=merge)
