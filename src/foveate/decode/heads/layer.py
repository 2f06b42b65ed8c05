"""The one decoder layer of a head, and how its queries and keys are turned to their places.

Owns its weights; which keys a row sees is the caller's. Knows neither tokens nor caches.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn

from foveate.decode.heads.config import HeadConfig


class Attend(Protocol):
    """Attention of new rows to these and earlier ones, wherever their keys and values lie."""

    def __call__(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """[B, H, n, d] and twice [B, G, n, d] of the new rows, turned to their places; [B, H, n, d]."""
        ...


class DraftLayer(nn.Module):
    """One decoder layer: RMS norm, grouped-query attention, SwiGLU."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.heads, self.groups, self.head_dim = (
            config.attention_heads,
            config.key_value_heads,
            config.head_dim,
        )
        width, inner = config.hidden_size, config.intermediate_size
        self.attention_norm = nn.RMSNorm(width, eps=config.rms_norm_eps)
        self.queries_keys_values = nn.Linear(
            width, (self.heads + 2 * self.groups) * self.head_dim, bias=False
        )
        self.out = nn.Linear(self.heads * self.head_dim, width, bias=False)
        self.feed_forward_norm = nn.RMSNorm(width, eps=config.rms_norm_eps)
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor, turns: torch.Tensor, attend: Attend) -> torch.Tensor:
        """[B, n, D] to [B, n, D]; turns [B or 1, 1, n, d / 2] complex: see `DraftHead.turns`."""
        mixed = self.queries_keys_values(self.attention_norm(x))
        mixed = mixed.unflatten(-1, (self.heads + 2 * self.groups, self.head_dim)).transpose(1, 2)
        placed = turned(mixed[:, : self.heads + self.groups], turns)
        queries, keys = placed[:, : self.heads], placed[:, self.heads :]
        seen = attend(queries, keys, mixed[:, self.heads + self.groups :])
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.feed_forward_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


def turned(x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """[B, H, n, d] turned; in float32, as complex numbers."""
    paired = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(paired * turns).flatten(-2).to(x.dtype)
