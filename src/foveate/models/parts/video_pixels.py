"""From the frames of a video to a tower's pixels, as the published video processors do it.

Owns resizing and normalisation of whole videos, and where a checkpoint's settings for them are written. Those
processors need torchvision, whose resizing of tensors is torch's own `interpolate` on bytes with antialiasing: the
same is done here without it. Pictures go through Pillow and can differ from frames by a level or so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    import numpy as np

# As transformers looks for them: one file for all processors, then the video processor's own.
_NESTED, _OWN = "processor_config.json", "video_preprocessor_config.json"
_MODES = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers; what tensors cannot do (Lanczos) becomes bicubic


def read_video_settings(folder: Path) -> dict[str, Any]:
    """What a checkpoint's folder says of videos apart from pictures; empty where it says nothing.

    Raises:
        ValueError: a file is not JSON.
    """
    found: dict[str, Any] | None = None
    if (folder / _NESTED).is_file():
        found = json.loads((folder / _NESTED).read_text(encoding="utf-8")).get("video_processor")
    if found is None and (folder / _OWN).is_file():
        found = json.loads((folder / _OWN).read_text(encoding="utf-8"))
    settings = dict(found or {})
    size = dict(settings.get("size") or {})
    # Older files name the edges of the budget so.
    for old, new in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        if settings.get(old) is not None:
            size[new] = settings[old]
    return {**settings, "size": size} if size else settings


def frames_to_pixels(
    frames: np.ndarray, *, width: int, height: int, settings: Mapping[str, Any]
) -> torch.Tensor:
    """[T, h, w, 3] uint8 -> [T, 3, height, width] float32, resized and normalised.

    Args:
        settings: `image_mean`, `image_std`, `rescale_factor` and `resample` as in the processors' files.
    """
    pixels = torch.from_numpy(frames.copy() if not frames.flags.writeable else frames).permute(0, 3, 1, 2)
    if pixels.shape[-2:] != (height, width):
        mode = _MODES.get(int(settings.get("resample", 3)), "bicubic")
        pixels = F.interpolate(pixels.contiguous(), size=(height, width), mode=mode, antialias=True)
    # Rescaling is folded into the mean and the deviation, so that bytes are read once.
    scale = 1.0 / float(settings["rescale_factor"])
    mean = torch.tensor(settings["image_mean"]) * scale
    deviation = torch.tensor(settings["image_std"]) * scale
    return (pixels.float() - mean[:, None, None]) / deviation[:, None, None]
