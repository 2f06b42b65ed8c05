"""Where kept tokens stand: as before with gaps (*keep*), or closed up (*repack*).

Owns both rules for 1-D positions and M-RoPE. Models without a preference differ between authors' codes, so the mode
is always explicit (reduction.md, section 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from foveate.reduce.base import PositionMode
from foveate.reduce.keep_map import KeepMap

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import Prompt


def reduced_positions(
    model: VisionLanguageModel,
    before: Prompt,
    after: Prompt,
    kept_tokens: torch.Tensor,
    keep_maps: Sequence[KeepMap],
    mode: PositionMode,
) -> tuple[torch.Tensor, int]:
    """Positions of the reduced prompt, [1, T'] or [3, 1, T'], and that of the first generated token.

    *keep*: every token where it stood; text behind an image does not move. *repack* in one dimension: as if the
    dropped tokens had never been. *repack* under M-RoPE: of each image the rows that hold a kept token close up, and so
    do the columns, and text goes on behind the larger of the two counts.

    Args:
        kept_tokens: [T'] indices of `before`'s tokens that are in `after`.
    """
    table = model.positions(before)
    if mode == "keep":
        return table[..., kept_tokens.to(table.device)], int(table.max()) + 1
    if table.ndim == 2:
        positions = model.positions(after)
    else:
        positions = repacked_mrope(after, model.image_token_id, keep_maps)[:, None].to(table.device)
    return positions, int(positions.max()) + 1


def repacked_mrope(after: Prompt, image_token_id: int, keep_maps: Sequence[KeepMap]) -> torch.Tensor:
    """[3, T'] (time, height, width); the tokens of one image stand together. A video's frames may keep none."""
    parts: list[torch.Tensor] = []
    index, position = 0, 0
    maps = (keep for keep in keep_maps if keep.count)
    while index < len(after.token_ids):
        if after.token_ids[index] != image_token_id:
            parts.append(torch.full((3, 1), position))
            index, position = index + 1, position + 1
            continue
        keep = next(maps)
        kept = keep.kept.cpu()
        rows, row_place = (kept // keep.grid.cols).unique(return_inverse=True)
        cols, col_place = (kept % keep.grid.cols).unique(return_inverse=True)
        parts.append(position + torch.stack([torch.zeros_like(row_place), row_place, col_place]))
        index, position = index + keep.count, position + max(len(rows), len(cols))
    return torch.cat(parts, dim=1)
