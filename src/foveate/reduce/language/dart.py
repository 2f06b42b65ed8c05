"""DART (Wen et al. 2025, arXiv 2502.11494): tokens unlike a few pivots; duplication matters more than attention.

Pivots are the 4 visual and 4 text tokens whose keys have the largest L1 norm in the layer before the cut (behind
layer 2 of 32). Each pivot in turn takes its share of the visual tokens not taken yet, those of lowest cosine to it,
by hidden states after the language model's last norm. Visual pivots stay too. Positions are kept, and no attention
is computed.

Differences: exactly k stay (the released code keeps up to k + 4): the pivots count, and what does not divide goes
to the first pivots. Pivots take in the order of their norms, visual ones first (the port iterates over a set). Text
pivots are of the text behind the image.
"""

from __future__ import annotations

from fractions import Fraction
from typing import ClassVar

import torch

from foveate.reduce.language.base import LanguageReducer
from foveate.reduce.language.view import View
from foveate.reduce.needs import Needs
from foveate.reduce.scoring import stable_order, unit
from foveate.reduce.tokens import Choice

PIVOTS = 4  # of the image, and as many of the text


class Dart(LanguageReducer):
    """The k least like a few pivots."""

    name = "dart"
    needs = Needs(question=True, language="keys and hidden states")
    cut_shares: ClassVar[tuple[Fraction, ...]] = (Fraction(3, 32),)
    repacks = False

    def choose_inside(self, view: View, k: int) -> Choice:
        norms = view.key.float().abs().sum(dim=(0, 2))
        visual = stable_order(norms[view.image][None])[0, : min(PIVOTS, k)]
        text = stable_order(norms[view.text][None])[0, :PIVOTS]
        states = unit(view.normalise(view.hidden))
        pivots = torch.cat([view.image[visual], view.text[text]])
        likeness = states[pivots] @ states[view.image].T  # [p, m]
        taken = torch.zeros(len(view.image), dtype=torch.bool, device=view.hidden.device)
        taken[visual] = True
        each, more = divmod(k - len(visual), len(pivots))
        for index, row in enumerate(likeness):
            share = each + int(index < more)
            taken[stable_order((-row).masked_fill(taken, float("-inf"))[None])[0, :share]] = True
        return Choice(kept=taken.nonzero()[:, 0][None])
