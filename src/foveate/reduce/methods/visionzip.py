"""VisionZip (Yang et al. 2024, arXiv 2412.04467): dominant tokens as they are, the rest merged into contextual ones.

Of k tokens 27/32 are dominant (54 of 64, 108 of 128, 162 of 192, the authors' settings): the most salient. Among the
rest, evenly strided anchors take the others in, by cosine of head-mean keys. A contextual token is its anchor *plus*
the mean of those assigned to it, a sum of two terms and not a mean, as released.

Differences: the CLS token is not among the dominant (projected features have none), contextual tokens stand where
their anchors stood instead of at the end, and features are merged behind the projector.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from foveate.errors import ReductionError
from foveate.reduce.base import Reducer, ReducerConfig
from foveate.reduce.merging import best_match, members, own_share, rows_of
from foveate.reduce.needs import Needs
from foveate.reduce.scoring import cosines, ids_of, mask_of, take, top_k
from foveate.reduce.tokens import Choice, Tokens


@dataclass(frozen=True, kw_only=True)
class VisionZipConfig(ReducerConfig):
    """dominant: share of the budget that goes to dominant tokens, rounded down, one at least."""

    dominant: float = 27 / 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.dominant <= 1:
            raise ReductionError(f"dominant is {self.dominant}", why="it is a share, above 0 and at most 1")


class VisionZip(Reducer):
    """Dominant tokens, and contextual ones that hold the mean of what was dropped."""

    name = "visionzip"
    needs = Needs(salience="any", keys=True)
    Config = VisionZipConfig
    config: VisionZipConfig

    def choose(self, tokens: Tokens, k: int) -> Choice:
        salience, n = tokens.needed_salience(), tokens.count
        dominant = top_k(salience, max(1, int(self.config.dominant * k)))
        contextual = k - dominant.shape[1]
        if contextual == 0:
            return Choice(kept=dominant, scores=salience)
        rest = ids_of(~mask_of(dominant, n), n - dominant.shape[1])
        strided = torch.arange(contextual, device=tokens.device) * (rest.shape[1] // contextual)
        anchors = rest[:, strided]
        kept = torch.cat([dominant, anchors], dim=1)
        if k == n:
            return Choice(kept=kept, scores=salience)
        others = ids_of(~mask_of(kept, n), n - k)
        similarity = cosines(take(tokens.needed_keys(), others), take(tokens.needed_keys(), anchors))
        into = best_match(similarity, anchors)
        share = 1.0 / members(into, n).clamp(min=1)
        merge = rows_of(own_share(kept), (into, others, share.gather(1, into)))
        return Choice(kept=kept, scores=salience, merge=merge)
