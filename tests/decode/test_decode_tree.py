"""Trees: who sees whom, pruning, and EAGLE-2's growth against a search of everything."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.decode.tree import ROOT, DraftTree, TreeGrower, TreeShape
from foveate.errors import FoveateError

TREES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 99)), max_size=12).map(
    lambda pairs: DraftTree(
        tuple(token for token, _ in pairs),
        tuple(number % (node + 1) - 1 for node, (_, number) in enumerate(pairs)),
    )
)


@given(TREES)
@settings(max_examples=100, deadline=None)
def test_paths_depths_and_sight_agree(tree: DraftTree) -> None:
    assert tree.visible.shape == (len(tree) + 1,) * 2
    assert tree.visible[0].tolist() == [True] + [False] * len(tree)
    for node in range(len(tree)):
        path = tree.path(node)
        assert len(path) == tree.depths[node]
        seen = {index - 1 for index in tree.visible[node + 1].nonzero()[:, 0].tolist()}
        assert seen == {ROOT, *path}
        assert node in tree.children(tree.parents[node])
        found = tree.child(tree.parents[node], tree.tokens[node])
        assert found is not None and tree.tokens[found] == tree.tokens[node]
    assert tree.child(ROOT, 77) is None
    assert tree.is_chain == all(len(tree.children(node)) <= 1 for node in range(-1, len(tree)))


@given(TREES, st.integers(0, 12), st.one_of(st.none(), st.integers(0, 5)))
@settings(max_examples=100, deadline=None)
def test_first_nodes_are_a_tree_of_the_same_paths(tree: DraftTree, nodes: int, depth: int | None) -> None:
    kept = tree.first(nodes, depth)
    assert len(kept) <= nodes and (depth is None or kept.depth <= depth)
    eligible = [node for node in range(len(tree)) if depth is None or tree.depths[node] <= depth]
    assert len(kept) == min(nodes, len(eligible))
    spelled = [[tree.tokens[one] for one in tree.path(node)] for node in eligible[:nodes]]
    assert [[kept.tokens[one] for one in kept.path(node)] for node in range(len(kept))] == spelled


def test_chain() -> None:
    chain = DraftTree.chain([4, 5, 6])
    assert chain.is_chain and chain.depth == 3 and chain.path(2) == [0, 1, 2]
    assert not DraftTree((1, 2), (ROOT, ROOT)).is_chain
    assert DraftTree().is_chain and DraftTree().depth == 0
    with pytest.raises(AssertionError, match="node 0 hangs under 0"):
        DraftTree((1,), (0,))


def grown(shape: TreeShape, vocabulary: int, seed: int) -> tuple[DraftTree, dict[tuple[int, ...], float]]:
    """A tree grown over a random language, and the value of every path of it."""
    generator = torch.Generator().manual_seed(seed)
    table: dict[tuple[int, ...], torch.Tensor] = {}

    def after(path: tuple[int, ...]) -> torch.Tensor:
        if path not in table:
            table[path] = (2 * torch.randn(vocabulary, generator=generator).double()).log_softmax(dim=-1)
        return table[path]

    grower = TreeGrower(shape)
    layers = 0
    while grower.frontier:
        so_far = DraftTree(tuple(grower.tokens), tuple(grower.parents))
        paths = [
            () if node == ROOT else tuple(so_far.tokens[one] for one in so_far.path(node))
            for node in grower.frontier
        ]
        assert len(paths) == (1 if layers == 0 else min(shape.width, len(paths)))
        grower.grow(torch.stack([after(path) for path in paths]))
        layers += 1
    assert layers == shape.depth
    values = {}
    for path in list(table):
        for token in range(vocabulary):
            values[*path, token] = sum(
                float(after(path[:place])[one]) for place, one in enumerate(path)
            ) + float(after(path)[token])
    return grower.tree(), values


@pytest.mark.parametrize("seed", range(5))
def test_growth_keeps_the_most_confident_paths(seed: int) -> None:
    """With a width that leaves nothing out, the kept nodes are the best of all paths there are."""
    vocabulary, shape = 4, TreeShape(width=64, depth=3, nodes=20)
    tree, values = grown(shape, vocabulary, seed)
    assert len(values) == 4 + 16 + 64
    spelled = {tuple(tree.tokens[one] for one in tree.path(node)) for node in range(len(tree))}
    best = sorted(values, key=lambda path: -values[path])[: shape.nodes]
    assert len(tree) == shape.nodes and spelled == set(best)


def test_growth_in_the_papers_size() -> None:
    tree, _ = grown(TreeShape(), 50, 1)
    assert len(tree) == 59 and 1 < tree.depth <= 7
    assert len(tree.children(ROOT)) <= 10


def test_a_shape_of_nothing_is_refused() -> None:
    with pytest.raises(FoveateError, match="depth of a draft tree is 0"):
        TreeShape(depth=0)
