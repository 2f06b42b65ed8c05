"""Qwen3-VL (Qwen team 2025, arXiv 2511.21631): Qwen2-VL with deepstack (Meng et al. 2024, arXiv 2406.04334).

Owns: features of several tower blocks that the first language layers add at the visual tokens again, and videos whose
    steps are told apart by their seconds in words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from foveate.models.families.qwen2_vl import Qwen2VL
from foveate.models.parts.mrope import Run
from foveate.models.records import MediaFeatures, Prompt, VisualGrid

FRAME_TOKENS = 768  # of one frame at most, as the published code counts them where a checkpoint does not say
NARROWEST = 200  # longer side to shorter


class Qwen3VL(Qwen2VL):
    """`Qwen3VLForConditionalGeneration`."""

    family = "qwen3_vl"

    def language_keywords(self, prompt: Prompt, features: Sequence[MediaFeatures]) -> dict[str, Any]:
        if not features:
            return {}
        levels = zip(*(item.deepstack for item in features), strict=True)
        return {
            "visual_pos_masks": self.visual_mask(prompt.token_ids).to(self.device)[None],
            "deepstack_visual_embeds": [torch.cat(level) for level in levels],
        }

    @property
    def vision_start(self) -> str:
        """The text of the token in front of an image or step."""
        return str(self.tokenizer.convert_ids_to_tokens(self.config.vision_start_token_id))

    @property
    def vision_end(self) -> str:
        """The text of the token behind."""
        return str(self.tokenizer.convert_ids_to_tokens(self.config.vision_end_token_id))

    @property
    def video_placeholder(self) -> str:
        # Every step has the marks that the template writes once, so that they go with the placeholder (as in the code
        # that the checkpoints came with; transformers 5.23's processor leaves them around all steps).
        marked = f"{self.vision_start}{self.video_token}{self.vision_end}"
        return marked if marked in (self.chat_template or "") else self.video_token

    def placeholder_text(self, grid: VisualGrid) -> str:
        if not grid.is_video:
            return super().placeholder_text(grid)
        step = f"{self.vision_start}{self.video_token * (grid.rows * grid.cols)}{self.vision_end}"
        return "".join(f"<{time:.1f} seconds>{step}" for time in grid.times)

    def step_times(self, times: Sequence[float]) -> tuple[float, ...]:
        """The middle between the first and the last frame of each patch."""
        size = self.frames_in_patch
        return tuple(
            (float(times[first]) + float(times[min(first + size, len(times)) - 1])) / 2
            for first in range(0, len(times), size)
        )

    def runs(self, grid: VisualGrid) -> list[Run]:
        """Words stand between the steps, so that each is a still to the positions."""
        return [Run(rows=grid.rows, cols=grid.cols)] * grid.frames

    def _fitted_frames(self, width: int, height: int, frames: int) -> tuple[int, int]:
        """One budget of pixels for all frames together; where the checkpoint asks for it, a cap on each."""
        settings, side, size = self.frame_settings, self.side, self.frames_in_patch
        least, most = settings["size"]["shortest_edge"], settings["size"]["longest_edge"]
        frames = max(frames, size)  # a lone frame is its own next
        if settings.get("cap_pixels_per_frame"):
            cap = settings.get("max_video_tokens", FRAME_TOKENS) * side**2
            most = max(min(cap, most // frames), int(least * 1.05)) * frames
        if min(width, height) < side:
            scale = max(side / width, side / height)
            width, height = int(width * scale), int(height * scale)
        if max(width, height) > NARROWEST * min(width, height):
            raise self._too_narrow(width, height)
        rows, cols = round(height / side), round(width / side)
        pixels = round(frames / size) * size * rows * cols * side**2
        if pixels > most:
            shrink = math.sqrt(frames * height * width / most)
            rows = max(1, math.floor(height / shrink / side))
            cols = max(1, math.floor(width / shrink / side))
        elif pixels < least:
            grow = math.sqrt(least / (frames * height * width))
            rows, cols = math.ceil(height * grow / side), math.ceil(width * grow / side)
        return rows, cols
