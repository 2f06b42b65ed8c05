"""What families ask of a CLIP, SigLIP or InternViT tower and of a fixed-size image processor.

Owns the meaning of `vision_feature_layer` (an index into hidden states) and the size a processor resizes to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def tower_layers(tower: torch.nn.Module) -> Sequence[Any]:
    """The encoder layers, whatever the tower calls their place."""
    inner = getattr(tower, "vision_model", tower)
    encoder = getattr(inner, "encoder", inner)
    layers = getattr(encoder, "layers", None)
    return layers if layers is not None else encoder.layer


def tower_attention_module(tower: torch.nn.Module, feature_layer: int | Sequence[int]) -> torch.nn.Module:
    """The attention of the layer whose output the model reads.

    Args:
        feature_layer: index into hidden states, which hold the embeddings first: of L layers, -1 and L are
            the output of layer L - 1, -2 of layer L - 2. Of several, the last given (the deepest, by
            custom).
    """
    layers = tower_layers(tower)
    index = feature_layer if isinstance(feature_layer, int) else feature_layer[-1]
    layer: Any = layers[index if index < 0 else max(index - 1, 0)]
    return getattr(layer, "self_attn", None) or layer.attention


def tower_has_cls(tower: torch.nn.Module) -> bool:
    """Whether token 0 of the tower is a CLS token."""
    inner = getattr(tower, "vision_model", tower)
    embeddings = inner.embeddings
    return hasattr(embeddings, "class_embedding") or hasattr(embeddings, "cls_token")


def processed_size(processor: Any, width: int, height: int) -> tuple[int, int]:
    """(width, height) in pixels after a CLIP- or SigLIP-style processor: resize, then centre crop."""
    size, crop = processor.size, processor.crop_size
    if processor.do_center_crop and crop:
        return int(crop["width"]), int(crop["height"])
    if not processor.do_resize:
        return width, height
    if size.get("height") and size.get("width"):
        return int(size["width"]), int(size["height"])
    # The shorter edge becomes `shortest_edge` and the longer keeps the aspect ratio, rounded down.
    edge, short, long = int(size["shortest_edge"]), min(width, height), max(width, height)
    other = int(edge * long / short)
    return (edge, other) if width <= height else (other, edge)
