"""Attention for training on a CPU: explicit scores, bfloat16 matrix products, a short backward pass.

Torch's fused CPU kernel saves memory, but at the lengths trained here forward and backward together take longer
than these matrix products do (benchmarks/train_attention.py). On other devices SDPA is used.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface


class ExplicitAttention(torch.autograd.Function):
    """softmax(q kᵀ / √d + bias) v for q [B, H, T, D], k and v [B, H, S, D], bias broadcastable to [B, H, T, S]."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        batch, heads, length, width = query.shape
        scale = width**-0.5
        q, k, v = (
            (t * scale if t is query else t).reshape(batch * heads, -1, width) for t in (query, key, value)
        )
        scores = torch.bmm(q, k.transpose(1, 2))
        if bias is not None:
            scores.view(batch, heads, length, -1).add_(bias)
        with torch.autocast(query.device.type, enabled=False):  # which would widen the weights to float32
            weights = torch.softmax(scores, dim=-1)
        ctx.save_for_backward(q, k, v, weights)
        return torch.bmm(weights, v).view(batch, heads, length, width)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights = ctx.saved_tensors
        batch, heads, length, width = gradients[0].shape
        gradient = gradients[0].reshape(batch * heads, length, width)
        for_value = torch.bmm(weights.transpose(1, 2), gradient)
        for_weights = torch.bmm(gradient, v.transpose(1, 2))
        for_scores = torch._softmax_backward_data(for_weights, weights, -1, weights.dtype)
        for_query = torch.bmm(for_scores, k) * width**-0.5
        for_key = torch.bmm(for_scores.transpose(1, 2), q)
        shape = (batch, heads, -1, width)
        return for_query.view(shape), for_key.view(shape), for_value.view(shape), None


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    query, key = (
        query.to(value.dtype),
        key.to(value.dtype),
    )  # rotary embedding leaves them wider under autocast
    if query.device.type == "cpu":
        return ExplicitAttention.apply(query, key, value, bias)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def tower_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, None]:
    """Unmasked attention of a vision tower: [B, H, N, D] -> [B, N, H, D]."""
    return attend(query, key, value, None).transpose(1, 2), None


def packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, **_: Any
) -> tuple[Tensor, None]:
    """Attention over `[opening + image | packed dialogues]` in two calls, which skips most of the masked half.

    Args:
        query, key, value: [B, heads, P + T, head width].
        attention_mask: [B, 1, T, P + T], added to the scores of the text rows; the P opening rows are causal.

    Returns:
        [B, P + T, heads, head width], and None for the weights that are never kept.
    """
    prefix = query.shape[2] - attention_mask.shape[2]
    causal = torch.full((prefix, prefix), -1e4, dtype=value.dtype, device=query.device).triu(1)
    opening = attend(query[:, :, :prefix], key[:, :, :prefix], value[:, :, :prefix], causal)
    text = attend(query[:, :, prefix:], key, value, attention_mask.to(value.dtype))
    return torch.cat([opening, text], dim=2).transpose(1, 2), None


AttentionInterface.register("foveate_train_tower", tower_attention)
AttentionInterface.register("foveate_train_packed", packed_attention)
