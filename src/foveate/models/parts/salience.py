"""How much a vision tower attends to each of its tokens, from the queries and keys of one layer.

Owns the two rows that cost no attention map: the CLS row (s_j = mean over heads of a[CLS, j]) and, for towers
without CLS, the column mean (s_j = mean over heads and queries of a[q, j]), computed from the log-sum-exp of
each query a chunk of queries at a time. Which layer to read is the family's knowledge; which tokens become
which visual token is its packing's. A tap can also keep the row of an early layer and the keys of the layer read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

# Logits of one chunk, heads included: 4 Mi float32 values are 16 MiB.
CHUNK_ELEMENTS = 1 << 22


def cls_row(
    query: torch.Tensor, key: torch.Tensor, scaling: float, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """[B, n - 1] float32: the head mean of the CLS token's attention to the others; token 0 is CLS.

    query, key: [B, H, n, d]. O(n d) a head.
    """
    logits = (query[:, :, :1].float() @ key.float().transpose(2, 3)) * scaling
    if mask is not None:
        logits = _masked(logits, mask[..., :1, :])
    return logits.softmax(dim=-1)[:, :, 0, 1:].mean(dim=1)


def column_mean(
    query: torch.Tensor, key: torch.Tensor, scaling: float, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """[B, n] float32: for each token, the mean over heads and queries of the attention it receives.

    s_j = mean_{h,q} exp(q . k_j * scaling - LSE_q). Queries come in chunks, so memory is O(n), time O(n^2 d).
    """
    batch, heads, count, _ = query.shape
    key = key.float()
    step = max(1, CHUNK_ELEMENTS // max(1, batch * heads * key.shape[2]))
    total = torch.zeros(batch, key.shape[2], device=query.device)
    for start in range(0, count, step):
        rows = slice(start, start + step)
        logits = (query[:, :, rows].float() @ key.transpose(2, 3)) * scaling
        if mask is not None:
            logits = _masked(logits, mask[..., rows, :] if mask.shape[-2] > 1 else mask)
        log_sum = logits.logsumexp(dim=-1, keepdim=True)
        total += (logits - log_sum).exp_().sum(dim=(1, 2))
    return total / (heads * count)


def _masked(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Boolean masks keep where True; float masks are added."""
    return logits.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else logits + mask


@dataclass(frozen=True, kw_only=True)
class TowerRequest:
    """What to listen to while a tower encodes.

    Attributes:
        salience: the row of the layer whose output the model reads.
        shallow: a second row, of the layer at this share of the tower's depth (0 is the first), or None.
        keys: the head mean of that layer's keys, as attention multiplies them (after rotation).
    """

    salience: bool = True
    shallow: float | None = None
    keys: bool = False

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return self.salience or self.keys or self.shallow is not None


class SalienceTap:
    """Listens to one or two attention modules of a tower and keeps what a request asks of them.

    A tower may call its attention once a batch of tiles (CLIP, SigLIP) or once an image (Qwen): `rows`
    collects one [n, C] matrix per batch item and call, in order. Its channels are the salience, then the
    shallow salience and the keys where asked for; a family places them all alike, and `split` parts them.
    """

    def __init__(self, request: TowerRequest | None = None) -> None:
        self.request = request if request is not None else TowerRequest()
        self._deep: list[torch.Tensor] = []
        self._shallow: list[torch.Tensor] = []
        self._keys: list[torch.Tensor] = []
        self._deep_module: torch.nn.Module | None = None
        self._shallow_module: torch.nn.Module | None = None
        self._has_cls = False

    def listen_to(
        self, module: torch.nn.Module, *, has_cls: bool, layers: Sequence[torch.nn.Module] = ()
    ) -> None:
        """Which attention module to read, and whether its token 0 is a CLS token.

        Args:
            layers: attention modules that a shallow row can be of, in order of depth.
        """
        self._deep_module, self._has_cls = module, has_cls
        if self.request.shallow is not None:
            self._shallow_module = layers[min(int(self.request.shallow * len(layers)), len(layers) - 1)]

    def hear(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        scaling: float,
        mask: torch.Tensor | None,
    ) -> None:
        """Called by the tower's attention with q, k of shape [B, H, n, d]."""
        if module is not self._deep_module and module is not self._shallow_module:
            return
        measure = cls_row if self._has_cls else column_mean
        row = measure(query, key, scaling, mask)
        if module is self._shallow_module:
            self._shallow.extend(row)
        if module is self._deep_module:
            self._deep.extend(row)
            if self.request.keys:
                self._keys.extend(key.float().mean(dim=1)[:, int(self._has_cls) :])

    @property
    def rows(self) -> list[torch.Tensor]:
        """[n, C] per batch item and call; without the CLS token."""
        parts = [[row[:, None] for row in self._deep]]
        if self.request.shallow is not None:
            parts.append([row[:, None] for row in self._shallow])
        if self.request.keys:
            parts.append(self._keys)
        return [torch.cat(one, dim=1) for one in zip(*parts, strict=True)]

    def split(self, placed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """[N, C] -> salience [N], shallow salience [N] or None, keys [N, d] or None."""
        shallow = placed[:, 1] if self.request.shallow is not None else None
        first_key = 1 + int(self.request.shallow is not None)
        return placed[:, 0], shallow, placed[:, first_key:] if self.request.keys else None
