"""The language model over one prompt and its answer, as `generate` calls it, with tokens dropped between layers.

Owns what outlives the prompt: the report, and positions by layer where gaps are closed up. The cache of each layer
holds what that layer read, so that each new token attends to fewer visual tokens in later layers. Knows no method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from foveate.models.attention import AttentionState
from foveate.reduce.language.listening import hooked
from foveate.reduce.language.prefill import Prefill
from foveate.reduce.language.records import Inside, LayerReport

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel


class LanguageRun:
    """Called as `VisionLanguageModel.run_language_model` is: once with the whole prompt, then with each new token.

    One object serves one answer.
    """

    def __init__(self, model: VisionLanguageModel, inside: Inside) -> None:
        self.model, self.inside = model, inside
        self._report: LayerReport | None = None
        self._shifts: list[int] = []  # by layer: positions closed up before it

    @property
    def report(self) -> LayerReport:
        """What was kept in each layer, once the prompt has been read."""
        assert self._report is not None, "the prompt has not been read"
        return self._report

    def __call__(
        self, embeds: torch.Tensor, positions: torch.Tensor, state: AttentionState, **keywords: Any
    ) -> torch.Tensor:
        """Hidden states [1, T', D] after the last norm, of the tokens that reach it."""
        if self._report is None:
            prefill = Prefill(self.model, self.inside, embeds, positions, state, keywords)
            hidden = prefill.run()
            self._report, self._shifts = prefill.report(), prefill.shifts
            return hidden
        if not any(self._shifts):
            return self.model.run_language_model(embeds, positions, state, **keywords)

        def lower(layer: int, module: Any, arguments: Any, given: Any) -> Any:
            if self._shifts[layer]:
                moved = positions - self._shifts[layer]
                given = {
                    **given,
                    "position_embeddings": self.model.language_model.rotary_emb(arguments[0], moved),
                }
            return arguments, given

        with hooked(self.model, state, lower):
            return self.model.run_language_model(embeds, positions, state, **keywords)
