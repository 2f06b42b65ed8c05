"""Tokens on their way into a head's rows: the half of the joint that a token alone decides is worked out beforehand.

Owns a table where it is small, and is the plain `DraftHead.join` where it would not be. On a CPU a draft step of a
small head is bound by the number of its operations, and this spares a norm and half a product.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from foveate.decode.heads.model import DraftHead

LARGEST_TABLE = 1 << 25  # bytes


class Words:
    """Inputs of text rows from token ids.

    Args:
        embed: the target's embeddings, as tokens enter it.
        largest: bytes that the table may take; 0 is none.
    """

    def __init__(
        self, head: DraftHead, embed: nn.Module, device: torch.device, *, largest: int = LARGEST_TABLE
    ) -> None:
        self._head, self._embed, self._device = head, embed, device
        self._table: torch.Tensor | None = None
        fuse, count = head.fuse, getattr(embed, "num_embeddings", None)
        # A packed layer has no weight to take a half of.
        if isinstance(fuse, nn.Linear) and count is not None:
            width = fuse.out_features
            if count * width * fuse.weight.element_size() <= largest:
                with torch.no_grad():
                    everything = embed(torch.arange(count, device=device))
                    self._table = head.embed_norm(everything) @ fuse.weight[:, :width].T
                    self._of_features = fuse.weight[:, width:].T.contiguous()

    def embeds(self, tokens: Sequence[int]) -> torch.Tensor:
        """[n, D] as they enter the target."""
        return self._embed(torch.tensor(tokens, device=self._device))

    def inputs(
        self, tokens: Sequence[int] | torch.Tensor, features: torch.Tensor, glances: torch.Tensor | None
    ) -> torch.Tensor:
        """[n, D]: `DraftHead.join` of these tokens' embeddings."""
        ids = tokens if isinstance(tokens, torch.Tensor) else torch.tensor(tokens, device=self._device)
        if self._table is None:
            return self._head.join(self._embed(ids), features, glances)
        normed = self._head.feature_norm(self._head.told(features, glances))
        return torch.addmm(self._table[ids], normed, self._of_features)
