"""Pixels and grids of videos against transformers' own video processors, where torchvision is installed.

They need it and this project does not; elsewhere `test_models_video.py` has the published processing written anew.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from reference_video import moving

from foveate.models import load

pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")

PROCESSORS = {
    "qwen2_vl": ("qwen2_vl", "Qwen2VLVideoProcessor"),
    "qwen2_5_vl": ("qwen2_vl", "Qwen2VLVideoProcessor"),
    "qwen3_vl": ("qwen3_vl", "Qwen3VLVideoProcessor"),
    "llava_onevision": ("llava_onevision", "LlavaOnevisionVideoProcessor"),
    "internvl": ("internvl", "InternVLVideoProcessor"),
}


@pytest.mark.parametrize("size", [(112, 56, 4), (90, 130, 3), (33, 47, 2), (640, 360, 8), (1280, 720, 16)])
@pytest.mark.parametrize("cap", [True, False])
@pytest.mark.parametrize("family", PROCESSORS)
def test_pixels_are_those_of_the_processor(
    family: str, cap: bool, size: tuple[int, int, int], tiny_folder: Callable
) -> None:
    package, name = PROCESSORS[family]
    module = importlib.import_module(f"transformers.models.{package}.video_processing_{package}")
    width, height, count = size
    noise = np.random.default_rng(0).integers(0, 40, (count, height, width, 3))
    frames = ((moving(width, height, count, 1) + noise) % 256).astype(np.uint8)
    model = load(tiny_folder(family), device="cpu")
    capped = {"cap_pixels_per_frame": cap} if family.startswith("qwen") else {}
    model.video_settings = {**model.video_settings, **capped}
    ours = model.process_frames(
        frames, model.video_grid(width, height, [index / 2 for index in range(count)])
    )
    theirs = getattr(module, name).from_pretrained(tiny_folder(family))(
        videos=[torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()],
        return_tensors="pt",
        do_sample_frames=False,
        **capped,
    )
    pixels = theirs["pixel_values_videos"]
    assert torch.equal(ours["pixel_values"], pixels[0] if pixels.ndim == 5 else pixels)
    if "video_grid_thw" in theirs:
        assert torch.equal(ours["image_grid_thw"], theirs["video_grid_thw"])
