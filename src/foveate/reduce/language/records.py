"""What a run inside the language model starts from, and what it reports.

Owns two records. Knows no method and no layers' code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from foveate.models.records import VisualGrid
from foveate.reduce.keep_map import KeepMap
from foveate.reduce.language.schedule import Cut

if TYPE_CHECKING:
    from foveate.reduce.base import PositionMode
    from foveate.reduce.language.base import LanguageReducer


@dataclass(frozen=True, kw_only=True, eq=False)
class InsideImage:
    """One image as it stands in the prompt.

    Attributes:
        grid: its layout before any reduction.
        ids: [N'] which of the grid's tokens are in the prompt, ascending; all of them unless another method has
            dropped some before the language model.
        places: [N'] where they are in the prompt.
        droppable: [N'] booleans, False for separators, which go at the first cut.
        text: [t] places of the text behind the image.
        salience: [N'] or None.
        cuts: layers and counts; empty where the whole image is kept.
        asked, reason, method: for keep-maps.
    """

    grid: VisualGrid
    ids: torch.Tensor
    places: torch.Tensor
    droppable: torch.Tensor
    text: torch.Tensor
    salience: torch.Tensor | None
    cuts: tuple[Cut, ...]
    asked: str
    reason: str
    method: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Inside:
    """A prompt's images, the method and what it does with 1-D positions."""

    reducer: LanguageReducer
    images: tuple[InsideImage, ...]
    mode: PositionMode


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerReport:
    """What was kept, layer by layer.

    Attributes:
        read: for each image, how many of its tokens each layer read during the prefill.
        cached: for each image, how many each layer holds for the answer; less where the method trims its cache.
        keep_maps: for each image, one keep-map a cut in order of layers; a single one where it is kept whole.
    """

    read: tuple[tuple[int, ...], ...]
    cached: tuple[tuple[int, ...], ...]
    keep_maps: tuple[tuple[KeepMap, ...], ...]

    @property
    def mean(self) -> float:
        """Visual tokens of all images that a layer read, mean over layers."""
        return sum(map(sum, self.read)) / len(self.read[0]) if self.read else 0.0
