"""Every method equals its slow reference, and every method keeps the contract's promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made import SHAPES, as_set, image, raster, stacked, tiled
from references import REFERENCES, hired_quotas

from foveate.errors import ReductionError
from foveate.reduce import KeepMap, get_reducer
from foveate.reduce.layout import layout_of
from foveate.reduce.registry import METHODS
from foveate.reduce.tiles import salience_quotas, uniform_quotas

SELECTING = [info.name for info in METHODS if info.name != "downsample"]
GRIDS = [raster(*shape) for shape in SHAPES] + [tiled(4, 2, 2), tiled(3, 1, 2)]


def budgets(n: int) -> list[int]:
    """One, two, a prime in between, a share that does not divide, all but one, all."""
    return sorted({k for k in (1, 2, 5, 7, n // 3, n // 2 + 1, n - 1, n) if 1 <= k <= n})


def test_every_method_but_random_and_downsample_has_a_reference() -> None:
    assert {*SELECTING} - {"random"} == {*REFERENCES}


@pytest.mark.parametrize("ties", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", REFERENCES)
def test_equals_the_reference(name: str, shape: tuple[int, int], ties: bool) -> None:
    grid = raster(*shape)
    reducer = get_reducer(name)
    for k in budgets(grid.tokens):
        plan = reducer.plan(grid, k)
        items = [image(grid, seed, ties=ties) for seed in range(3)]
        for item, keep in zip(items, reducer.select_batch(items, [plan] * 3), strict=True):
            ids, expected = stacked(REFERENCES[name](as_set(item, k)))
            assert keep.kept.tolist() == ids
            assert plan.kept == len(ids) <= k
            reduced = reducer.apply(item, keep)
            np.testing.assert_allclose(reduced.features.numpy(), expected, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(reduced.deepstack[0].numpy(), 2 * expected, rtol=1e-4, atol=1e-5)


def test_random_is_uniform_and_its_own_for_each_picture_and_seed() -> None:
    grid = raster(5, 4)
    counts = torch.zeros(20)
    reducer = get_reducer("random")
    for seed in range(2000):
        counts[reducer.select(image(grid, seed), reducer.plan(grid, 5)).kept] += 1
    # Each token is kept with probability 1/4: 500 of 2000 and a standard deviation of 19.4.
    assert (counts - 500).abs().max() < 4 * 19.4
    item = image(grid, 0)
    first = reducer.select(item, reducer.plan(grid, 5)).kept
    assert torch.equal(first, reducer.select(item, reducer.plan(grid, 5)).kept)
    others = [get_reducer("random", seed=seed).select(item, reducer.plan(grid, 5)).kept for seed in (1, 2, 3)]
    assert any(not torch.equal(first, other) for other in others)


@pytest.mark.parametrize("name", SELECTING)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_every_keep_map_promises(name: str, data: st.DataObject) -> None:
    """Exactly k as planned, ascending, unique, never a separator; neighbours in a batch change nothing."""
    reducer = get_reducer(name)
    grids = data.draw(st.lists(st.sampled_from(GRIDS), min_size=1, max_size=4))
    seeds = data.draw(st.lists(st.integers(0, 50), min_size=len(grids), max_size=len(grids)))
    items = [image(grid, seed, ties=seed % 3 == 0) for grid, seed in zip(grids, seeds, strict=True)]
    plans = [reducer.plan(item.grid, data.draw(st.integers(1, layout_of(item.grid).count))) for item in items]
    maps = reducer.select_batch(items, plans)
    for item, plan, keep in zip(items, plans, maps, strict=True):
        kept = keep.kept.tolist()
        assert kept == sorted(set(kept))
        assert len(kept) == plan.kept
        assert set(kept) <= set(layout_of(item.grid).content.tolist()) or plan.is_full
        assert reducer.apply(item, keep).features.shape == (plan.kept, item.features.shape[1])
        assert KeepMap.from_json(keep.to_json()).to_dict() == keep.to_dict()
    order = data.draw(st.permutations(range(len(items))))
    shuffled = reducer.select_batch([items[i] for i in order], [plans[i] for i in order])
    alone = [reducer.select(items[i], plans[i]) for i in order]
    for place, index in enumerate(order):
        for other in (shuffled[place], alone[place]):
            assert torch.equal(other.kept, maps[index].kept)
            assert torch.allclose(
                reducer.apply(items[index], other).features,
                reducer.apply(items[index], maps[index]).features,
                atol=1e-5,
            )


@pytest.mark.parametrize("name", SELECTING)
@pytest.mark.parametrize("budget", ["full", "100%", "N"])
def test_full_is_no_reducer_at_all(name: str, budget: str) -> None:
    reducer = get_reducer(name)
    for grid in GRIDS:
        item = image(grid, 1)
        plan = reducer.plan(grid, grid.tokens if budget == "N" else budget)
        keep = reducer.select(item, plan)
        assert keep.is_full
        assert reducer.apply(item, keep) is item


@pytest.mark.parametrize("name", SELECTING)
def test_merges_survive_json(name: str) -> None:
    """A stored keep-map makes the same features."""
    for grid in (raster(7, 11), tiled(4, 2, 2)):
        reducer, item = get_reducer(name), image(grid, 3)
        keep = reducer.select(item, reducer.plan(grid, 20))
        again = KeepMap.from_json(keep.to_json())
        assert torch.equal(reducer.apply(item, again).features, reducer.apply(item, keep).features)


def test_separators_go_first_and_are_counted_in_the_whole() -> None:
    grid = tiled(4, 2, 2)
    content = layout_of(grid).count
    reducer = get_reducer("fastervlm")
    plan = reducer.plan(grid, grid.tokens - 1)
    assert (plan.kept, plan.total) == (content, grid.tokens)
    assert "separators" in plan.reason
    assert reducer.select(image(grid, 0), plan).kept.tolist() == layout_of(grid).content.tolist()


def test_tiles_share_by_the_rule_of_hired() -> None:
    grid = tiled(4, 2, 2)
    layout = layout_of(grid)
    tiles = [{"rows": t.rows, "cols": t.cols, "box": t.box} for t in layout.tiles]
    items = [image(grid, seed) for seed in range(6)]
    for k in (1, 3, 10, 30, layout.count - 1, layout.count):
        for alpha in (0.0, 0.5, 1.0):
            reducer = get_reducer("hired", alpha=alpha)
            plan = reducer.plan(grid, k)
            for item, keep in zip(items, reducer.select_batch(items, [plan] * 6), strict=True):
                row = item.shallow_salience[layout.content].double().numpy()
                expected = hired_quotas(tiles, row[:16], 4, 4, k, alpha)
                kept_tile = layout.tile[torch.isin(layout.content, keep.kept)]
                assert torch.bincount(kept_tile, minlength=len(tiles)).tolist() == expected
                for tile in range(len(tiles)):
                    ids = layout.content[layout.tile == tile].tolist()
                    best = sorted(ids, key=lambda i, item=item: -float(item.salience[i]))[: expected[tile]]
                    assert set(best) <= set(keep.kept.tolist())


def test_budget_follows_where_the_overview_looks() -> None:
    """All of the overview's early attention in one corner sends all of the parts' budget to that corner's tile."""
    grid = tiled(4, 2, 2)
    item = image(grid, 0)
    item.shallow_salience.zero_()
    item.shallow_salience[15] = 1.0  # the overview's last token: bottom right
    layout = layout_of(grid)
    quotas = salience_quotas(grid, layout, item.shallow_salience[layout.content][None], 20, 0.5)
    assert quotas.tolist() == [[10, 0, 0, 0, 10]]
    quotas = salience_quotas(grid, layout, item.shallow_salience[layout.content][None], 40, 0.25)
    assert quotas[0, 4] == 16, "a full tile"
    assert quotas.sum() == 40


@given(st.lists(st.integers(1, 40), min_size=1, max_size=9), st.data())
def test_uniform_quotas(sizes: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(0, sum(sizes)))
    quotas = uniform_quotas(tuple(sizes), k)
    assert sum(quotas) == k
    for quota, size in zip(quotas, sizes, strict=True):
        assert quota <= size
        assert abs(quota - k * size / sum(sizes)) < 1


@pytest.mark.parametrize("rule", ["whole", "uniform", "salience"])
@pytest.mark.parametrize("name", SELECTING)
def test_tile_rules_compose_with_every_method(name: str, rule: str) -> None:
    grid = tiled(4, 2, 2)
    try:
        reducer = get_reducer(name, tiles=rule)
    except ReductionError as error:
        assert "It can: " in str(error)
        assert name in ("average_pool", "pixel_shuffle", "vscan")
        return
    items = [image(grid, seed) for seed in range(3)]
    plan = reducer.plan(grid, 20)
    layout = layout_of(grid)
    shares = []
    for keep in reducer.select_batch(items, [plan] * 3):
        assert keep.count == plan.kept
        shares.append(
            torch.bincount(layout.tile[torch.isin(layout.content, keep.kept)], minlength=5).tolist()
        )
    if rule == "uniform" and plan.kept == 20:
        assert shares[0] == list(uniform_quotas(tuple(tile.tokens for tile in layout.tiles), 20))
    if rule == "salience":
        assert all(share[0] == 10 for share in shares)
