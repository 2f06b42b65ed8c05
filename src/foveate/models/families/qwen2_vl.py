"""Qwen2-VL (Wang et al. 2024, arXiv 2409.12191): native resolution, 2 x 2 patches a token, M-RoPE.

Owns: the resize to a multiple of patch x merge within a pixel budget, patches that cover two frames of a video,
    attention in the tower within an image or such a pair, positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from foveate.errors import PromptError
from foveate.models.attention import listening
from foveate.models.parts.mrope import Run, mrope_positions
from foveate.models.parts.patches import patches_of, pictures_of
from foveate.models.records import Encoded, PreparedMedia, Prompt, Region, VisualGrid
from foveate.models.video import VideoModel

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image

    from foveate.models.parts.salience import SalienceTap


# Tokens that a whole video may take, as the published code counts them where a checkpoint does not say.
VIDEO_TOKENS = 128_000


class Qwen2VL(VideoModel):
    """`Qwen2VLForConditionalGeneration`."""

    family = "qwen2_vl"

    def visual_grid(self, width: int, height: int, *, images_in_prompt: int = 1) -> VisualGrid:
        size = self.image_processor.size
        return self._grid(
            *self._fitted(width, height, least=size["shortest_edge"], most=size["longest_edge"])
        )

    def _fitted(self, width: int, height: int, *, least: int, most: int) -> tuple[int, int]:
        """Rows and columns in tokens of a picture brought between `least` and `most` pixels."""
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        factor = self.side
        try:
            pixel_height, pixel_width = smart_resize(height, width, factor, min_pixels=least, max_pixels=most)
        except ValueError as error:
            raise self._too_narrow(width, height) from error
        return pixel_height // factor, pixel_width // factor

    def _too_narrow(self, width: int, height: int) -> PromptError:
        return PromptError(
            f"A picture of {width} x {height} pixels is too narrow for {self.ref}",
            why="its longer side may be at most 200 times the shorter",
            fix="Crop it.",
        )

    @property
    def side(self) -> int:
        """Pixels along one side of a token."""
        return int(self.image_processor.patch_size * self.image_processor.merge_size)

    @property
    def frames_in_patch(self) -> int:
        """Frames of a video that one patch covers."""
        return int(self.config.vision_config.temporal_patch_size)

    def _grid(self, rows: int, cols: int, times: tuple[float, ...] = ()) -> VisualGrid:
        steps = max(1, len(times))
        return VisualGrid(
            tokens=steps * rows * cols,
            rows=rows,
            cols=cols,
            tiles=((rows, cols),) * steps,
            pixel_width=cols * self.side,
            pixel_height=rows * self.side,
            regions=(Region(rows=rows, cols=cols),) * len(times),
            frames=steps,
            times=times,
        )

    def video_grid(self, width: int, height: int, times: Sequence[float]) -> VisualGrid:
        rows, cols = self._fitted_frames(width, height, len(times))
        return self._grid(rows, cols, self.step_times(times))

    def _fitted_frames(self, width: int, height: int, frames: int) -> tuple[int, int]:
        """Rows and columns of each frame: one budget for a frame and, where the checkpoint asks for it, an even share
        of that of the whole video.
        """
        settings = self.frame_settings
        least, most = settings["size"]["shortest_edge"], settings["size"]["longest_edge"]
        if settings.get("cap_pixels_per_frame"):
            whole = int(settings.get("max_video_tokens", VIDEO_TOKENS) * self.side**2 * 0.9)
            most = max(min(most, whole * self.frames_in_patch // frames), int(least * 1.05))
        return self._fitted(width, height, least=least, most=most)

    def step_times(self, times: Sequence[float]) -> tuple[float, ...]:
        """The time of each patch along the time axis: here its first frame's."""
        return tuple(float(time) for time in times[:: self.frames_in_patch])

    def process_frames(self, frames: np.ndarray, grid: VisualGrid) -> dict[str, torch.Tensor]:
        return self._patched(super().process_frames(frames, grid)["pixel_values"], grid)

    def _patched(self, pictures: torch.Tensor, grid: VisualGrid) -> dict[str, torch.Tensor]:
        """What the tower wants of pictures [T, 3, H, W] of the grid's size."""
        vision = self.config.vision_config
        merge, patch = int(vision.spatial_merge_size), int(vision.patch_size)
        return {
            "pixel_values": patches_of(pictures, merge=merge, patch=patch, frames=self.frames_in_patch),
            "image_grid_thw": torch.tensor([[grid.frames, grid.rows * merge, grid.cols * merge]]),
        }

    def placeholder_text(self, grid: VisualGrid) -> str:
        return (self.video_token if grid.is_video else self.image_token) * grid.tokens

    def process_pixels(self, image: PIL.Image.Image, *, images_in_prompt: int = 1) -> dict[str, torch.Tensor]:
        output = self.image_processor(images=[image], return_tensors="pt")
        return {"pixel_values": output["pixel_values"], "image_grid_thw": output["image_grid_thw"]}

    @property
    def resizes(self) -> bool:
        return True

    def picture(self, item: PreparedMedia) -> torch.Tensor:
        vision = self.config.vision_config
        pictures = pictures_of(
            item.tensors["pixel_values"],
            item.grid.rows,
            item.grid.cols,
            merge=vision.spatial_merge_size,
            patch=vision.patch_size,
            frames=self.frames_in_patch,
        )
        return pictures if item.grid.is_video else pictures[:1]

    def resized(self, item: PreparedMedia, rows: int, cols: int) -> PreparedMedia:
        """Native resolution: the tower reads any number of patches."""
        grid = self._grid(rows, cols, item.grid.times)
        smaller = torch.nn.functional.interpolate(
            self.picture(item).float(),
            size=(grid.pixel_height, grid.pixel_width),
            mode="bilinear",
            antialias=True,
        ).to(item.tensors["pixel_values"].dtype)
        return replace(item, tensors={**item.tensors, **self._patched(smaller, grid)}, grid=grid)

    def positions(self, prompt: Prompt) -> torch.Tensor:
        runs = [run for item in prompt.media for run in self.runs(item.grid)]
        return mrope_positions(prompt.token_ids, self.visual_token_ids, runs)[:, None].to(self.device)

    def runs(self, grid: VisualGrid) -> list[Run]:
        """The visual tokens of one image or video as they stand in a prompt: a video's steps one behind the other,
        whatever time lies between them.
        """
        return [Run(rows=grid.rows, cols=grid.cols, times=tuple(range(grid.frames)))]

    @property
    def salience_layer(self) -> torch.nn.Module:
        """The attention whose column mean is the salience: of the last block."""
        return self.hf_model.model.visual.blocks[-1].attn

    @property
    def shallow_layers(self) -> list[torch.nn.Module]:
        """The attention modules that an early salience row can be of."""
        return [block.attn for block in self.hf_model.model.visual.blocks]

    def arrange(self, row: torch.Tensor, item: PreparedMedia) -> torch.Tensor:
        """[patches, C] of one image or step in the tower's order -> [tokens, C] in raster order."""
        merge = int(self.config.vision_config.spatial_merge_size)
        return row.reshape(-1, merge * merge, row.shape[1]).mean(
            dim=1
        )  # the tower keeps a token's patches together

    def tower(self, pixels: torch.Tensor, grids: torch.Tensor) -> Any:
        """transformers' features of patches [P, c] and grids [images and videos, 3] (time, height, width)."""
        return self.hf_model.model.get_image_features(pixels, grids, return_dict=True)

    def encode_batch(self, media: Sequence[PreparedMedia], tap: SalienceTap | None) -> list[Encoded]:
        pixels = torch.cat([item.tensors["pixel_values"] for item in media]).to(self.device, self.dtype)
        grids = torch.cat([item.tensors["image_grid_thw"] for item in media]).to(self.device)
        if tap is not None:
            tap.listen_to(self.salience_layer, has_cls=False, layers=self.shallow_layers)
        with listening(tap):
            output = self.tower(pixels, grids)
        levels = getattr(output, "deepstack_features", None) or []
        heard = iter([] if tap is None else tap.rows)  # the tower attends within one step at a time
        encoded: list[Encoded] = []
        for index, item in enumerate(media):
            row = None
            if tap is not None:
                row = torch.cat([self.arrange(next(heard), item) for _ in range(item.grid.frames)])
            encoded.append((output.pooler_output[index], row, tuple(level[index] for level in levels)))
        return encoded
