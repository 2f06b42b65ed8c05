"""The output head, for exactly the rows that are asked for.

Owns the choice of rows and the bound on how many are projected at a time: logits of a whole prompt would be
[T, V], and V is 150,000 in current models. Knows no sampling. The same projection will serve verification of
drafts, prompt log-probabilities and distillation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel


class OutputHead:
    """Projects hidden rows to logits, at most `row_budget` of them at a time."""

    def __init__(self, model: VisionLanguageModel, row_budget: int) -> None:
        assert row_budget >= 1
        self._model, self.row_budget = model, row_budget

    def project(self, hidden: torch.Tensor, rows: Sequence[int]) -> Iterator[tuple[int, torch.Tensor]]:
        """(index into `rows` of the first, float32 logits [n, V]) for consecutive pieces of `rows`.

        Args:
            hidden: [1, T, D] after the last norm.
            rows: token indices within T, any order.
        """
        for first in range(0, len(rows), self.row_budget):
            wanted = torch.tensor(rows[first : first + self.row_budget], device=hidden.device)
            yield first, self._model.head(hidden[0].index_select(0, wanted)).float()
