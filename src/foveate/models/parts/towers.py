"""What families ask of a CLIP, SigLIP or InternViT tower and of a fixed-size image processor.

Owns the meaning of `vision_feature_layer` (an index into hidden states), the LLaVA line of tower, selection
and projector, and the size a processor resizes to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from foveate.models.attention import listening
from foveate.models.parts.salience import SalienceTap
from foveate.models.records import Region


def tower_attention_modules(tower: torch.nn.Module) -> list[torch.nn.Module]:
    """The attention modules of a CLIP, SigLIP or InternViT tower, first layer first."""
    encoder: Any = getattr(tower, "vision_model", tower)
    encoder = encoder.encoder
    layers = encoder.layers if hasattr(encoder, "layers") else encoder.layer
    return [layer.self_attn if hasattr(layer, "self_attn") else layer.attention for layer in layers]


def listen_to_tower(
    tap: SalienceTap | None, tower: torch.nn.Module, feature_layer: int | Sequence[int]
) -> None:
    """Points a tap, if there is one, at the layer whose output the model reads.

    Args:
        feature_layer: index into hidden states, which hold the embeddings first: of L layers, -1 and L are
            the output of layer L - 1, -2 of layer L - 2. Of several, the last given (the deepest, by
            custom).
    """
    if tap is None:
        return
    index = feature_layer if isinstance(feature_layer, int) else feature_layer[-1]
    layers = tower_attention_modules(tower)
    tap.listen_to(
        layers[index if index < 0 else max(index - 1, 0)], has_cls=tower_has_cls(tower), layers=layers
    )


def tower_has_cls(tower: torch.nn.Module) -> bool:
    """Whether token 0 of the tower is a CLS token."""
    embeddings: Any = getattr(tower, "vision_model", tower).embeddings
    return hasattr(embeddings, "class_embedding") or hasattr(embeddings, "cls_token")


def lay_patches_in_rows(model: torch.nn.Module) -> None:
    """Makes the embeddings of every tower below `model` hand on patches one after the other in memory.

    A convolution leaves them channel by channel, residual additions keep that order, and every layer then works
    across it: a tenth of a SigLIP-B/16 pass on a CPU. The values are the same.
    """

    def contiguous(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
        return output.contiguous() if isinstance(output, torch.Tensor) else output

    for module in model.modules():
        if type(module).__name__.endswith("VisionEmbeddings"):
            module.register_forward_hook(contiguous)


def llava_features(
    core: Any, config: Any, pixels: torch.Tensor, tap: SalienceTap | None
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """Tower, layer selection and projector of the LLaVA line of models.

    Args:
        core: the transformers model without its head.
        pixels: [B, 3, H, W].

    Returns:
        [B, n, D] projected features, and per tile what the tap heard, [n, C] (None without a tap).
    """
    tower, layer = core.vision_tower, config.vision_feature_layer
    cls = tower_has_cls(tower)
    listen_to_tower(tap, tower, layer)
    with listening(tap):
        # Only a downsampled picture is not of the size that the position embeddings were trained for.
        other_size = {} if _is_trained_size(tower, pixels) else {"interpolate_pos_encoding": True}
        hidden = tower(pixels, output_hidden_states=True, return_dict=True, **other_size).hidden_states
    chosen = torch.cat([hidden[index] for index in ([layer] if isinstance(layer, int) else layer)], dim=-1)
    drops_first = config.vision_feature_select_strategy == "default"
    if drops_first:
        chosen = chosen[:, 1:]
    rows: list[torch.Tensor | None] = [None] * pixels.shape[0]
    if tap is not None:
        # A CLS token kept as a feature has no salience of its own; "default" drops token 0 whatever it is.
        rows = [F.pad(row, (0, 0, 1, 0)) if cls else row for row in tap.rows]
        rows = [row[1:] if drops_first and row is not None else row for row in rows]
    return core.multi_modal_projector(chosen), rows


def _is_trained_size(tower: Any, pixels: torch.Tensor) -> bool:
    size = square_side(tower.config.image_size)
    return tuple(pixels.shape[-2:]) == (size, size)


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


def block_mean(row: torch.Tensor, side: int, factor: int) -> torch.Tensor:
    """[side^2, C] -> [(side / factor)^2, C]: of tokens each made of factor x factor neighbours."""
    raster = row.T.reshape(1, -1, side, side)
    return F.avg_pool2d(raster, factor).flatten(2)[0].T


def tile_regions(rows: int, cols: int, side: int) -> tuple[Region, ...]:
    """rows x cols tiles of side x side tokens that cut the picture into equal parts, in raster order."""
    return tuple(
        Region(
            rows=side,
            cols=side,
            box=(row / rows, col / cols, (row + 1) / rows, (col + 1) / cols),
        )
        for row in range(rows)
        for col in range(cols)
    )


def whole_region(side: int) -> tuple[Region, ...]:
    """One tile of side x side tokens that shows the whole picture beside others."""
    return (Region(rows=side, cols=side, overview=True),)


def square_side(value: int | Sequence[int]) -> int:
    """A size that configurations write as a number or as [height, width]."""
    return int(value) if isinstance(value, int) else int(value[0])
