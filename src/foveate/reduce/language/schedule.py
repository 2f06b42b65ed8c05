"""Where in the language model tokens are dropped, and how many stay from there on.

Owns the layers ("cuts") and the counts that meet a budget. Knows no tensors and no method.

Two meanings of "k tokens" (reduction.md, section 0): `average`, the mean over layers of the visual tokens a layer
reads, as the papers' tables count ("192 tokens" of FastV are 576 in two layers and 166 in thirty), and `final`,
what is left behind the last cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from foveate.errors import ReductionError

Counting = Literal["average", "final"]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """From layer `layer` on (0-based) `kept` visual tokens of an image are left."""

    layer: int
    kept: int


def cut_layers(shares: Sequence[Fraction], chosen: Sequence[int], layers: int, name: str) -> tuple[int, ...]:
    """The first layers that read fewer tokens: those chosen, or the authors' at this model's depth.

    Args:
        shares: the authors' layers as shares of their model's depth.
        chosen: layers asked for, ascending; empty for the authors'.
        layers: of this model.

    Raises:
        ReductionError: a layer the model does not have, or layer 0 (nothing has been read by then), or a model of
            one layer.
    """
    if layers < 2:
        raise ReductionError(
            f"The method {name} drops tokens between layers", why=f"this language model has {layers}"
        )
    if chosen:
        if chosen[0] < 1 or chosen[-1] >= layers:
            raise ReductionError(
                f"The method {name} cannot drop tokens before layers {', '.join(map(str, chosen))}",
                why=f"the language model has layers 0 to {layers - 1}, and layer 0 reads all tokens",
                fix=f"Choose cuts from 1 to {layers - 1}.",
            )
        return tuple(chosen)
    return tuple(sorted({min(layers - 1, max(1, round(share * layers))) for share in shares}))


def schedule(
    present: int, droppable: int, k: int, *, layers: int, cuts: Sequence[int], counting: Counting, name: str
) -> tuple[Cut, ...]:
    """How many of an image's tokens stay at each cut: a geometric series that meets the budget.

    `average`: the largest series whose mean over all layers is at most k. `final`: the series that ends in k.

    Args:
        present: the image's tokens in the prompt, which the layers before the first cut read.
        droppable: of those, the ones a cut can keep (separators go at the first).
        k: the budget, at most `droppable` (`Reducer.plan` sees to it).

    Raises:
        ReductionError: the layers before the first cut alone read more than the average asked for.
    """
    assert 1 <= k <= present, f"a budget of {k} where {present} tokens are"
    if counting == "final":
        counts = [
            max(1, round(droppable * (k / droppable) ** (step / len(cuts)))) for step in range(1, len(cuts))
        ]
        return tuple(Cut(layer=layer, kept=kept) for layer, kept in zip(cuts, [*counts, k], strict=True))
    lengths = [stop - start for start, stop in zip(cuts, [*cuts[1:], layers], strict=True)]

    def counts_at(ratio: float) -> list[int]:
        return [max(1, math.floor(droppable * ratio**step)) for step in range(1, len(cuts) + 1)]

    def total(counts: Sequence[int]) -> int:
        return cuts[0] * present + sum(length * count for length, count in zip(lengths, counts, strict=True))

    allowed = k * layers
    if total(counts_at(0.0)) > allowed:
        least = -(-total(counts_at(0.0)) // layers)
        raise ReductionError(
            f"The method {name} cannot read {k} of {present} visual tokens in the mean of {layers} layers",
            why=f"the first {cuts[0]} read all of them, so the mean is {least} at least",
            fix=f'Ask for {least} or more, or count what is left at the end: get_reducer("{name}", counting="final").',
        )
    if total(counts_at(1.0)) <= allowed:
        return tuple(Cut(layer=layer, kept=droppable) for layer in cuts)
    low, high = 0.0, 1.0
    for _ in range(60):  # as fine as double precision tells apart
        middle = (low + high) / 2
        if total(counts_at(middle)) <= allowed:
            low = middle
        else:
            high = middle
    return tuple(Cut(layer=layer, kept=kept) for layer, kept in zip(cuts, counts_at(low), strict=True))
