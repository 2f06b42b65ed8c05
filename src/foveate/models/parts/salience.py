"""How much a vision tower attends to each of its tokens, from the queries and keys of one layer.

Owns the two rows that cost no attention map: the CLS row (s_j = mean over heads of a[CLS, j]) and, for towers
without CLS, the column mean (s_j = mean over heads and queries of a[q, j]), computed from the log-sum-exp of
each query a chunk of queries at a time. Which layer to read is the family's knowledge; which tokens become
which visual token is its packing's.
"""

from __future__ import annotations

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


class SalienceTap:
    """Listens to one attention module of a tower and keeps its salience rows.

    A tower may call its attention once a batch of tiles (CLIP, SigLIP) or once an image (Qwen): `rows`
    collects one [n] row per batch item and call, in order.
    """

    def __init__(self) -> None:
        self.rows: list[torch.Tensor] = []
        self._module: torch.nn.Module | None = None
        self._has_cls = False

    def listen_to(self, module: torch.nn.Module, *, has_cls: bool) -> None:
        """Which attention module to read, and whether its token 0 is a CLS token."""
        self._module, self._has_cls = module, has_cls

    def hear(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        scaling: float,
        mask: torch.Tensor | None,
    ) -> None:
        """Called by the tower's attention with q, k of shape [B, H, n, d]."""
        if module is self._module:
            measure = cls_row if self._has_cls else column_mean
            self.rows.extend(measure(query, key, scaling, mask))
