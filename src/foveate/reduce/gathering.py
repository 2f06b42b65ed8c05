"""From images to sets of tokens and back: what the base class does around every choice.

Owns the ids: local ones within a set, content ones without separators, and those of the image. Checks what every
keep-map promises. Knows no method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from foveate.errors import ReductionError
from foveate.models.records import MediaFeatures, VisualGrid
from foveate.reduce.budget import Plan
from foveate.reduce.keep_map import KeepMap, Merge
from foveate.reduce.layout import TokenLayout
from foveate.reduce.needs import Needs
from foveate.reduce.tokens import Choice, Tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """Sets of tokens put to a method together.

    Attributes:
        tokens: what the method sees.
        items: for each set, the item it came from.
        ids: [B, n] token ids in the image.
    """

    tokens: Tokens
    items: list[int]
    ids: torch.Tensor


def gather_problems(
    items: Sequence[MediaFeatures],
    layout: TokenLayout,
    needs: Needs,
    questions: Sequence[str],
    members: Sequence[tuple[int, int]] | None,
) -> Problem:
    """The sets of `members`, (item, tile) pairs of tiles of one shape; None takes each image whole."""
    if members is None:
        owners = list(range(len(items)))
        places = torch.arange(layout.count, device=layout.content.device).expand(len(items), -1)
        single = len(layout.tiles) == 1
        rows, cols = (layout.tiles[0].rows, layout.tiles[0].cols) if single else (0, 0)
    else:
        owners = [item for item, _ in members]
        by_tile = layout.tile.argsort(stable=True)
        starts = [0]
        for tile in layout.tiles:
            starts.append(starts[-1] + tile.tokens)
        places = torch.stack([by_tile[starts[tile] : starts[tile + 1]] for _, tile in members])
        shape = layout.tiles[members[0][1]]
        rows, cols = shape.rows, shape.cols
    ids = layout.content[places]
    saliences = _taken(items, owners, ids, "salience", needs.salience is not None)
    tokens = Tokens(
        features=torch.stack([items[owner].features[row] for owner, row in zip(owners, ids, strict=True)]),
        salience=saliences,
        shallow=_taken(items, owners, ids, "shallow_salience", needs.shallow is not None),
        keys=_taken(items, owners, ids, "keys", needs.keys),
        rows=rows,
        cols=cols,
        row=layout.row[places[0]],
        col=layout.col[places[0]],
        names=tuple(items[owner].digest for owner in owners),
        questions=tuple(questions[owner] for owner in owners) if needs.question else (),
        frames=items[0].grid.frames if members is None else 1,
    )
    return Problem(tokens=tokens, items=owners, ids=ids)


def _taken(
    items: Sequence[MediaFeatures], owners: list[int], ids: torch.Tensor, name: str, wanted: bool
) -> torch.Tensor | None:
    if not wanted:
        return None
    values = [getattr(items[owner], name) for owner in owners]
    if any(value is None for value in values):
        raise ReductionError(
            f"The features came without {name.replace('_', ' ')}",
            why="the tower was not listened to while it encoded",
            fix="Encode with model.encode(media, salience=reducer.request()).",
        )
    return torch.stack([value[row] for value, row in zip(values, ids, strict=True)])


def scatter_choices(
    problems: Sequence[tuple[Problem, Choice]],
    layout: TokenLayout,
    *,
    grid: VisualGrid,
    plan: Plan,
    method: str,
    stage: str,
) -> list[KeepMap]:
    """One keep-map an item from the choices made on its sets, checked."""
    count = 1 + max(owner for problem, _ in problems for owner in problem.items)
    kept: list[list[torch.Tensor]] = [[] for _ in range(count)]
    merges: list[list[Merge]] = [[] for _ in range(count)]
    scores: list[torch.Tensor | None] = [None] * count
    for problem, choice in problems:
        chosen = problem.ids.gather(1, choice.kept)
        merge = None if choice.merge is None else _in_image(choice.merge, problem.ids)
        for index, owner in enumerate(problem.items):
            kept[owner].append(chosen[index])
            if merge is not None:
                merges[owner].append(_row(merge, index))
            if choice.scores is not None:
                found = scores[owner]
                row = torch.zeros(layout.total, device=chosen.device) if found is None else found
                scores[owner] = row.scatter(0, problem.ids[index], choice.scores[index].float())
    ordered = torch.stack([torch.cat(parts) for parts in kept]).sort(dim=1).values
    _check(ordered, plan)
    return [
        KeepMap(
            grid=grid,
            kept=ordered[owner],
            asked=plan.asked,
            reason=plan.reason,
            method=method,
            stage=stage,
            scores=scores[owner],
            merge=_joined(merges[owner]),
        )
        for owner in range(count)
    ]


def _in_image(merge: Merge, ids: torch.Tensor) -> Merge:
    """[B, M] local ids -> ids of the image."""
    into, sources = ids.gather(1, merge.into), ids.gather(1, merge.sources)
    return replace(merge, into=into, sources=sources, weights=merge.weights.float())


def _row(merge: Merge, index: int) -> Merge:
    """One set's [M] rows of [B, M]."""
    return Merge(
        into=merge.into[index],
        sources=merge.sources[index],
        weights=merge.weights[index],
        channels=None if merge.channels is None else merge.channels[index],
    )


def _joined(merges: Sequence[Merge]) -> Merge | None:
    """The rows of all sets of an image."""
    if not merges:
        return None
    channels = [merge.channels for merge in merges if merge.channels is not None]
    assert len(channels) in (0, len(merges)), "some tiles of an image split channels and others do not"
    return Merge(
        into=torch.cat([merge.into for merge in merges]),
        sources=torch.cat([merge.sources for merge in merges]),
        weights=torch.cat([merge.weights for merge in merges]),
        channels=torch.cat(channels) if channels else None,
    )


def _check(kept: torch.Tensor, plan: Plan) -> None:
    """Exactly k, each once. On a GPU the second is asserted there, so that nobody waits for the answer."""
    assert kept.shape[1] == plan.kept, f"{kept.shape[1]} tokens kept where {plan.kept} were planned"
    once = (kept.diff(dim=1) > 0).all()
    if kept.device.type == "cpu":
        assert bool(once), "a token was chosen twice"
    else:
        torch._assert_async(once)


def combine(features: torch.Tensor, keep: KeepMap) -> torch.Tensor:
    """[N, D] -> [k, D]: kept tokens alone, or the mixture that the keep-map says."""
    merge = keep.merge
    if merge is None:
        return features.index_select(0, keep.kept)
    target = torch.searchsorted(keep.kept, merge.into)
    parts = merge.weights[:, None] * features[merge.sources].float()
    if merge.channels is not None:
        modulus, remainder = merge.channels.unbind(1)
        channel = torch.arange(features.shape[1], device=features.device)
        parts = parts * (channel % modulus[:, None] == remainder[:, None])
    mixed = torch.zeros(keep.count, features.shape[1], device=features.device)
    return mixed.index_add_(0, target, parts).to(features.dtype)
