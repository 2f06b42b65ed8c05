"""PruMerge+ (Shang et al. 2024, arXiv 2403.15388), capped to a planned count.

Outliers of the CLS row (above the third quartile plus 1.5 interquartile ranges) stay, strided tokens are added, and
each kept token takes in its 32 nearest by keys, weighted by CLS attention and not normalised; what is dropped makes
one more token, its attention-weighted sum.

Differences. The authors' count follows from the outliers and from a stride of a third of their distance, so about
one kept token in four is an outlier; a paged cache needs the count before the encoder runs. Here k is exact: the
extra token is one of the k (from k = 2 on) and stands where the most salient dropped token stood; of the others at
most a quarter (one at least) are outliers, the most salient ones, and strided tokens fill up. The CLS row is that of
the layer the model reads, head mean (released: the next layer's, without a split into heads).
"""

from __future__ import annotations

import torch

from foveate.reduce.base import Reducer
from foveate.reduce.merging import own_share, rows_of
from foveate.reduce.needs import Needs
from foveate.reduce.scoring import cosines, ids_of, mask_of, stable_order, take
from foveate.reduce.tokens import Choice, Tokens

NEIGHBOURS = 32


class PruMergePlus(Reducer):
    """Outliers and strided tokens, each with its neighbours merged in."""

    name = "prumerge_plus"
    needs = Needs(salience="cls", keys=True)

    def choose(self, tokens: Tokens, k: int) -> Choice:
        salience, n = tokens.needed_salience(), tokens.count
        if k == n:
            everyone = torch.arange(n, device=tokens.device).expand(tokens.batch, -1)
            return Choice(kept=everyone, scores=salience)
        plain = k - int(k >= 2)
        kept = ids_of(_outliers_and_strided(salience, plain), plain)
        near = _nearest(tokens.needed_keys(), kept)
        into = kept[..., None].expand(near.shape).flatten(1)
        rows = [own_share(kept), (into, near.flatten(1), salience.gather(1, near.flatten(1)))]
        if plain < k:
            dropped = ids_of(~mask_of(kept, n), n - plain)
            weights = salience.gather(1, dropped)
            extra = dropped.gather(1, weights.argmax(dim=1, keepdim=True))
            rows.append((extra.expand(dropped.shape), dropped, weights))
            kept = torch.cat([kept, extra], dim=1)
        return Choice(kept=kept, scores=salience, merge=rows_of(*rows))


def _outliers_and_strided(salience: torch.Tensor, k: int) -> torch.Tensor:
    """[B, n] booleans, k a row: up to max(1, k // 4) outliers, then even distances over the others.

    The number of outliers differs by image, so which tokens a stride meets is computed by counting: of K strided
    tokens among M, (2 K (p + 1) + M - 1) // (2 M) stand at places 0..p.
    """
    quartiles = torch.quantile(salience, torch.tensor([0.25, 0.75], device=salience.device), dim=1)
    fence = quartiles[1] + 1.5 * (quartiles[1] - quartiles[0])
    order = stable_order(salience)
    leading = order[:, : max(1, k // 4)]
    outlier = torch.zeros_like(salience, dtype=torch.bool)
    outlier.scatter_(1, leading, salience.gather(1, leading) > fence[:, None])
    strided = k - outlier.sum(dim=1, keepdim=True)
    others = salience.shape[1] - outlier.sum(dim=1, keepdim=True)
    place = (~outlier).cumsum(dim=1) - 1
    met = (2 * strided * (place + 1) + others - 1) // (2 * others)
    before = (2 * strided * place + others - 1) // (2 * others)
    return outlier | (~outlier & (met > before))


def _nearest(keys: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """[B, k, m]: of each kept token [B, k] its nearest others by cosine of keys [B, n, d]."""
    count = min(NEIGHBOURS, keys.shape[1] - 1)
    similarity = cosines(take(keys, kept), keys)
    similarity = similarity.scatter(2, kept[..., None], float("-inf"))
    return similarity.argsort(dim=2, descending=True, stable=True)[..., :count]
