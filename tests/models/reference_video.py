"""What plain transformers is given for a video: pixels and grids by the published processing, written anew.

transformers' own video processors need torchvision, which this project does not. Shares no code with
`foveate.models` beyond the token ids of a prompt.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from foveate.media import Video, video_of


def moving(width: int, height: int, count: int, seed: int) -> np.ndarray:
    """[count, height, width, 3] uint8: coarse blocks, other ones in every frame and for every seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, size=(count, 5, 5, 3), dtype=np.uint8)
    rows, cols = np.arange(height) * 5 // height, np.arange(width) * 5 // width
    return blocks[:, rows][:, :, cols]


def ask(*kinds: str, text: str = "what moves") -> list[dict[str, Any]]:
    """One user message with these media, text between them."""
    parts: list[dict[str, Any]] = []
    for index, kind in enumerate(kinds):
        parts += [{"type": kind}, {"type": "text", "text": f"({index})"}]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def clip(width: int, height: int, count: int, seed: int, rate: float = 2.0) -> Video:
    return video_of(moving(width, height, count, seed), np.arange(count) / rate)


def settings_of(folder: Path) -> dict[str, Any]:
    """The image processor's file, under the video processor's where there is one."""
    found: dict[str, Any] = {}
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        if (folder / name).is_file():
            found |= json.loads((folder / name).read_text(encoding="utf-8"))
    return found


def normalised(frames: np.ndarray, width: int, height: int, settings: dict[str, Any]) -> torch.Tensor:
    """[T, 3, height, width]: resized as bytes, then (x / 255 - mean) / deviation."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
    if (height, width) != frames.shape[1:3]:
        pixels = torch.nn.functional.interpolate(pixels, size=(height, width), mode="bicubic", antialias=True)
    mean, deviation = np.array(settings["image_mean"]), np.array(settings["image_std"])
    scaled = (pixels.numpy() / 255.0 - mean[:, None, None]) / deviation[:, None, None]
    return torch.from_numpy(scaled.astype(np.float32))


def qwen_patches(pixels: torch.Tensor, *, patch: int, merge: int = 2, pair: int = 2) -> torch.Tensor:
    """Patch rows one by one: for each pair of frames, block of merge x merge patches and patch in it, the values
    by channel, frame, row and column.
    """
    values = pixels.numpy()
    if len(values) % pair:
        values = np.concatenate([values, values[-1:].repeat(pair - len(values) % pair, axis=0)])
    side = patch * merge
    rows = []
    for first in range(0, len(values), pair):
        for top in range(0, values.shape[2], side):
            for left in range(0, values.shape[3], side):
                for down in range(merge):
                    for right in range(merge):
                        y, x = top + down * patch, left + right * patch
                        cut = values[first : first + pair, :, y : y + patch, x : x + patch]
                        rows.append(cut.transpose(1, 0, 2, 3).reshape(-1))
    return torch.from_numpy(np.stack(rows))


def qwen_size(
    family: str, frames: int, width: int, height: int, settings: dict[str, Any], factor: int
) -> tuple[int, int]:
    """(width, height) by transformers' own functions, which need no torchvision."""
    least, most = settings["size"]["shortest_edge"], settings["size"]["longest_edge"]
    if family == "qwen3_vl":
        from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize as fit

        high, wide = fit(frames, height, width, 2, factor, least, most)
    else:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        high, wide = smart_resize(height, width, factor, least, most)
    return wide, high


def plain_video_inputs(
    family: str,
    folder: Path,
    token_ids: Sequence[int],
    clips: Sequence[np.ndarray],
    *,
    images: Sequence[Image.Image] = (),
    seconds_per_step: float = 1.0,
    order: str = "",
) -> dict[str, Any]:
    """Keyword arguments of the transformers model.

    Args:
        clips: [T, height, width, 3] each.
        seconds_per_step: `second_per_grid_ts` of every clip (Qwen2.5-VL).
        order: for InternVL, whose model takes one array: "v" and "i" as they stand in the prompt.
    """
    config = transformers.AutoConfig.from_pretrained(folder)
    settings = settings_of(folder)
    ids = torch.tensor([list(token_ids)])
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    shown: dict[str, Any] = {}
    if images:
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
        nested = family == "llava_onevision"
        keywords = {"crop_to_patches": True} if family == "internvl" else {}
        shown = processor(images=[list(images)] if nested else list(images), return_tensors="pt", **keywords)
    if family == "internvl":
        return {**inputs, "pixel_values": _internvl_pixels(clips, shown, settings, order)}
    wanted = ("pixel_values", "image_sizes", "image_grid_thw", "batch_num_images")
    inputs |= {name: shown[name] for name in wanted if name in shown}
    if family == "llava_onevision":
        size = config.vision_config.image_size
        stacked = torch.stack([normalised(clip, size, size, settings) for clip in clips])
        return {**inputs, "pixel_values_videos": stacked}
    patch = config.vision_config.patch_size
    rows, grids = [], []
    for clip in clips:
        width, height = qwen_size(family, len(clip), clip.shape[2], clip.shape[1], settings, 2 * patch)
        rows.append(qwen_patches(normalised(clip, width, height, settings), patch=patch))
        grids.append([-(-len(clip) // 2), height // patch, width // patch])
    inputs["pixel_values_videos"], inputs["video_grid_thw"] = torch.cat(rows), torch.tensor(grids)
    inputs["mm_token_type_ids"] = (ids == config.image_token_id).int() + 2 * (
        ids == config.video_token_id
    ).int()
    if family == "qwen2_5_vl":
        inputs["second_per_grid_ts"] = torch.tensor([seconds_per_step] * len(clips))
    return inputs


def _internvl_pixels(
    clips: Sequence[np.ndarray], shown: Any, settings: dict[str, Any], order: str
) -> torch.Tensor:
    edge = settings["size"]["height"]
    videos = iter([normalised(clip, edge, edge, settings) for clip in clips])
    stills = iter(shown["pixel_values"].split(shown["num_patches"].tolist()) if shown else ())
    return torch.cat([next(videos if kind == "v" else stills) for kind in order or "v" * len(clips)])
