"""What plain transformers is given and what an eager attention map says, for comparison with our own path.

Knows the inputs each family's transformers model wants and the layout of each tower; shares no code with
`foveate.models` beyond the token ids of a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from PIL import Image

MAP_ATTENTION = "eager_map_for_tests"
_maps: dict[torch.nn.Module, list[torch.Tensor]] = {}


def plain_inputs(
    family: str, folder: Any, token_ids: Sequence[int], images: Sequence[Image.Image]
) -> dict[str, Any]:
    """Keyword arguments of the transformers model: ids, and the pixels of all images processed together."""
    family = family.removesuffix("_crops").removesuffix("2") if "gemma" in family else family
    ids = torch.tensor([list(token_ids)])
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    config = transformers.AutoConfig.from_pretrained(folder)
    image_id = getattr(config, "image_token_id", -1)
    if family == "paligemma":
        inputs["token_type_ids"] = torch.zeros_like(ids)
    elif family == "gemma3":
        inputs["token_type_ids"] = (ids == image_id).long()
    elif family.startswith("qwen") and family.endswith("vl"):
        inputs["mm_token_type_ids"] = (ids == image_id).int()
    if not images:
        return inputs
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    nested = family in ("idefics3", "smolvlm", "llava_onevision")
    keywords = {"crop_to_patches": True} if family == "internvl" else {}
    batch = processor(images=[list(images)] if nested else list(images), return_tensors="pt", **keywords)
    wanted = ("pixel_values", "image_sizes", "image_grid_thw", "pixel_attention_mask", "batch_num_images")
    inputs.update({name: batch[name] for name in wanted if name in batch})
    return inputs


def _map_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention that keeps its whole map."""
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1)
    _maps.setdefault(module, []).append(weights)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def eager_salience(family: str, folder: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """[visual tokens of all images] from the complete attention maps of the tower layer that the model
    reads.
    """
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    transformers.AttentionInterface.register(MAP_ATTENTION, _map_attention)
    AttentionMaskInterface.register(MAP_ATTENTION, eager_mask)
    model = transformers.AutoModelForImageTextToText.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation={"vision_config": MAP_ATTENTION, "text_config": "eager"},
    ).eval()
    _maps.clear()
    with torch.no_grad():
        model(**inputs)
    core = model.model
    family = family.removesuffix("_crops").removesuffix("2") if "gemma" in family else family
    if family.startswith("qwen"):
        return _qwen_rows(family, core, inputs["image_grid_thw"])
    tower = core.vision_model if family in ("idefics3", "smolvlm") else core.vision_tower
    layers = tower.encoder.layer if family == "internvl" else tower.encoder.layers
    layer = layers[-2] if family in ("llava", "llava_next") else layers[-1]
    attention = layer.attention if family == "internvl" else layer.self_attn
    maps = torch.cat(_maps[attention]).mean(dim=1)  # [tiles, n, n], heads averaged
    has_cls = family in ("llava", "llava_next", "internvl")
    rows = maps[:, 0, 1:] if has_cls else maps.mean(dim=1)
    if family in ("llava_next", "llava_onevision"):
        return _anyres_rows(family, core, rows, inputs)
    factor = {"idefics3": 2, "smolvlm": 2, "internvl": 2, "gemma3": 2}.get(family, 1)
    side = round(rows.shape[1] ** 0.5)
    blocks = rows.reshape(-1, side // factor, factor, side // factor, factor)
    return blocks.mean(dim=(2, 4)).flatten()


def _qwen_rows(family: str, core: Any, grids: torch.Tensor) -> torch.Tensor:
    from transformers.vision_utils import get_vision_window_index

    vision = core.config.vision_config
    rows = torch.cat([weights.mean(dim=(1, 2))[0] for weights in _maps[core.visual.blocks[-1].attn]])
    tokens = rows.reshape(-1, vision.spatial_merge_size**2).mean(dim=1)
    if family == "qwen2_5_vl":
        order, _ = get_vision_window_index(
            grids, vision.spatial_merge_size, vision.window_size, vision.patch_size
        )
        tokens = tokens[torch.argsort(order)]
    return tokens


def _anyres_rows(family: str, core: Any, rows: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
    """Through the transformers model's own packing, one channel wide, newlines worth nothing."""
    single = "batch_num_images" in inputs and int(inputs["batch_num_images"].flatten()[0]) > 1
    sizes = inputs["image_sizes"]
    if single:
        counts = [1] * len(sizes)
    else:
        from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

        config = core.config
        counts = [
            image_size_to_num_patches(size, config.image_grid_pinpoints, config.vision_config.image_size)
            for size in sizes
        ]
    keywords = (
        {"vision_aspect_ratio": core.config.vision_aspect_ratio}
        if family == "llava_onevision"
        else {"vision_feature_select_strategy": "default"}
    )
    packed, _ = core.pack_image_features(
        rows[..., None].split(counts), sizes, image_newline=torch.zeros(1), **keywords
    )
    return torch.cat(packed)[:, 0]
