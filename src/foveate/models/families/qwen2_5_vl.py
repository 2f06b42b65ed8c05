"""Qwen2.5-VL (Bai et al. 2025, arXiv 2502.13923): Qwen2-VL whose tower attends within windows in most blocks.

Owns: the window order of the tower's tokens, salience from the last block that attends to the whole image, and
    the time axis of positions, which is in seconds.
"""

from __future__ import annotations

import torch

from foveate.models.families.qwen2_vl import Qwen2VL
from foveate.models.parts.mrope import Run
from foveate.models.records import PreparedMedia, VisualGrid

SLACK = 1e-4  # of a position: 3 steps of a third of a second are one second


class Qwen25VL(Qwen2VL):
    """`Qwen2_5_VLForConditionalGeneration`."""

    family = "qwen2_5_vl"

    @property
    def salience_layer(self) -> torch.nn.Module:
        """A windowed block compares neighbours only; the last full one (the last block, as released) sees
        all.
        """
        return self.hf_model.model.visual.blocks[max(self.config.vision_config.fullatt_block_indexes)].attn

    @property
    def shallow_layers(self) -> list[torch.nn.Module]:
        """The blocks that attend to the whole image."""
        blocks = self.hf_model.model.visual.blocks
        return [blocks[index].attn for index in sorted(self.config.vision_config.fullatt_block_indexes)]

    def runs(self, grid: VisualGrid) -> list[Run]:
        """A step stands at its second times `tokens_per_second`, rounded down: two videos of unlike rates agree on
        what a second is.
        """
        if not grid.is_video:
            return super().runs(grid)
        rate = float(self.config.vision_config.tokens_per_second)
        times = tuple(int((time - grid.times[0]) * rate + SLACK) for time in grid.times)
        return [Run(rows=grid.rows, cols=grid.cols, times=times)]

    def arrange(self, row: torch.Tensor, item: PreparedMedia) -> torch.Tensor:
        windowed = super().arrange(row, item)
        vision = self.config.vision_config
        side = vision.window_size // vision.spatial_merge_size // vision.patch_size
        grid_rows = torch.arange(item.grid.rows)[:, None].expand(item.grid.rows, item.grid.cols)
        grid_cols = torch.arange(item.grid.cols)[None].expand(item.grid.rows, item.grid.cols)
        # Windows in raster order, tokens in raster order inside each: a stable sort by window number.
        windows_across = -(-item.grid.cols // side)
        window = (grid_rows // side) * windows_across + grid_cols // side
        order = window.flatten().argsort(stable=True).to(row.device)
        raster = torch.empty_like(windowed)
        raster[order] = windowed
        return raster
