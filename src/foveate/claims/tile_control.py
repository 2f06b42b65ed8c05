"""The control of the claim about HiRED's tiles, and how many of the objects' tokens a choice keeps.

Owns the reducer whose tiles are all alike, and the reading of the world's masks at the tiles' tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from foveate.claims.asking import Dialogue
from foveate.reduce.base import TileRule
from foveate.reduce.layout import TokenLayout, layout_of
from foveate.reduce.methods.hired import HiRED
from foveate.reduce.tiles import salience_quotas
from foveate.reduce.tokens import Tokens
from foveate.world import render, sample_scene

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import VisualGrid
    from foveate.reduce.base import Reducer


class LevelHiRED(HiRED):
    """The control: HiRED with an overview that looks everywhere alike, so that all tiles get the same."""

    name = "hired_level"

    def _quotas(
        self, rule: TileRule, grid: VisualGrid, layout: TokenLayout, tokens: Tokens, kept: int
    ) -> torch.Tensor:
        alike = torch.ones_like(tokens.needed_salience())
        return salience_quotas(grid, layout, alike, kept, self.config.alpha)


def objects_kept(
    model: VisionLanguageModel, reducer: Reducer | None, budget: str, asked: Sequence[Dialogue]
) -> list[float]:
    """Of each picture the share of tile tokens that show an object (most of their pixels do) and are kept."""
    by_number = {dialogue.number: dialogue for dialogue in asked}
    shares = []
    for number, dialogue in sorted(by_number.items()):
        assert dialogue.image.width == dialogue.image.height, "tokens are found by shares of a square picture"
        truth = render(sample_scene("shapes", "test", number), dialogue.image.height)
        shows = torch.from_numpy(truth.ids >= 0)
        content = [{"type": "image"}, {"type": "text", "text": dialogue.turns[0].text}]
        prompt = model.prepare([{"role": "user", "content": content}], images=[dialogue.image])
        layout = layout_of(prompt.media[0].grid)
        patch = int(model.config.vision_config.patch_size)
        tiled = layout.tile != layout.overview
        # Row and column in the picture of every tile token; its centre is given as a share of the picture.
        rows, columns = (layout.centre[tiled] * torch.tensor(shows.shape) / patch).floor().long().unbind(1)
        patches = shows.unfold(0, patch, patch).unfold(1, patch, patch).float().mean((2, 3))
        covered = patches[rows, columns] > 0.5
        kept = torch.ones(layout.count, dtype=torch.bool)
        if reducer is not None:
            features = model.encode(prompt.media, salience=reducer.request())
            plan = reducer.plan(prompt.media[0].grid, budget)
            kept = reducer.select(features[0], plan).mask().cpu()[layout.content]
        shares.append(float((kept[tiled] & covered).sum() / covered.sum()))
    return shares
