"""Verification leaves the target's distribution as it is: shown by enumerating all outcomes, and the mix that does
not is caught."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from foveate.claims.enumeration import LENGTH, VOCABULARY, Language, distance, joint, outcomes, plain
from foveate.decode.tree import ROOT, DraftTree
from foveate.decode.verify import (
    RandomChance,
    match_sampled,
    verify_chain,
    verify_drawn_tree,
    verify_greedy,
    verify_tree,
)

EXACT = 1e-12
SEEDS = range(12)
# Children of the root with a branch below the first, one below the second, a grandchild.
PARENTS = (ROOT, ROOT, ROOT, 0, 0, 1, 3)


def languages(seed: int) -> tuple[Language, Language]:
    """A target and a draft that resembles it."""
    target = Language(seed)
    return target, target.near(Language(1000 + seed), 0.5)


def rows(language: Language, tree: DraftTree) -> torch.Tensor:
    """[1 + nodes, V]: after the root, then after every node."""
    pasts = [[], *([tree.tokens[one] for one in tree.path(node)] for node in range(len(tree)))]
    return torch.stack([language(past) for past in pasts])


def top_tree(draft: Language, parents: tuple[int, ...] = PARENTS) -> DraftTree:
    """The n-th child of a node is its n-th likeliest token."""
    tokens: list[int] = []
    for node, parent in enumerate(parents):
        shape = DraftTree(tuple(tokens), parents[:node])
        rank = parents[:node].count(parent)
        past = [] if parent == ROOT else [tokens[one] for one in shape.path(parent)]
        tokens.append(int(draft(past).argsort(descending=True, stable=True)[rank]))
    return DraftTree(tuple(tokens), parents)


def drawn_tree(draft: Language, parents: tuple[int, ...], chance: object) -> DraftTree:
    """Every child drawn from the draft's distribution after its parent."""
    tokens: list[int] = []
    for node, parent in enumerate(parents):
        shape = DraftTree(tuple(tokens), parents[:node])
        past = [] if parent == ROOT else [tokens[one] for one in shape.path(parent)]
        tokens.append(chance.draw(draft(past)))  # type: ignore[attr-defined]
    return DraftTree(tuple(tokens), parents)


def test_enumeration_weighs_every_outcome_once() -> None:
    target, draft = languages(0)
    tree = top_tree(draft)
    weights = [weight for _, weight in outcomes(lambda chance: verify_tree(tree, rows(target, tree), chance))]
    assert abs(sum(weights) - 1) < EXACT and len(weights) > 20
    assert abs(float(plain(target).sum()) - 1) < EXACT


@pytest.mark.parametrize("seed", SEEDS)
def test_chain_of_drawn_tokens(seed: int) -> None:
    target, draft = languages(seed)

    def emit(chance: object) -> list[int]:
        tree = drawn_tree(draft, (ROOT, 0, 1), chance)
        q = torch.stack([draft(tree.tokens[:place]) for place in range(3)])
        return verify_chain(tree.tokens, rows(target, tree), q, chance)  # type: ignore[arg-type]

    assert distance(joint(emit, target), plain(target)) < EXACT


@pytest.mark.parametrize("seed", SEEDS)
def test_tree_of_likeliest_tokens(seed: int) -> None:
    target, draft = languages(seed)
    tree = top_tree(draft)
    emit = joint(lambda chance: verify_tree(tree, rows(target, tree), chance), target)
    assert distance(emit, plain(target)) < EXACT


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_target_only_rule_takes_drawn_children_too(seed: int) -> None:
    """Repeated tokens included."""
    target, draft = languages(seed)

    def emit(chance: object) -> list[int]:
        tree = drawn_tree(draft, (ROOT, ROOT, 0, 0), chance)
        return verify_tree(tree, rows(target, tree), chance)  # type: ignore[arg-type]

    assert distance(joint(emit, target), plain(target)) < EXACT


@pytest.mark.parametrize("seed", SEEDS)
def test_tree_of_drawn_tokens(seed: int) -> None:
    target, draft = languages(seed)

    def emit(chance: object) -> list[int]:
        tree = drawn_tree(draft, (ROOT, ROOT, 0, 0), chance)
        return verify_drawn_tree(tree, rows(target, tree), rows(draft, tree), chance)  # type: ignore[arg-type]

    assert distance(joint(emit, target), plain(target)) < EXACT


@pytest.mark.parametrize("seed", SEEDS)
def test_matching_the_targets_own_draw(seed: int) -> None:
    """The engine's rule is exact, and accepts as often as the target-only rule."""
    target, draft = languages(seed)
    tree = top_tree(draft)
    p = rows(target, tree)

    def matched(chance: object) -> list[int]:
        return match_sampled(tree, lambda node: chance.draw(p[node + 1]))  # type: ignore[attr-defined]

    assert distance(joint(matched, target), plain(target)) < EXACT
    lengths = [
        sum(weight * len(emitted) for emitted, weight in outcomes(rule))
        for rule in (matched, lambda chance: verify_tree(tree, p, chance))
    ]
    assert abs(lengths[0] - lengths[1]) < EXACT
    assert lengths[0] > 1.3


def test_mutant_likeliest_children_under_the_ratio_rule() -> None:
    """The mix that looks right and is not: every exactness test above would notice it."""
    errors = []
    for seed in SEEDS:
        target, draft = languages(seed)
        tree = top_tree(draft)
        p, q = rows(target, tree), rows(draft, tree)
        mixed = joint(lambda chance, t=tree, p=p, q=q: verify_drawn_tree(t, p, q, chance), target)
        errors.append(distance(mixed, plain(target)))
    assert min(errors) > 1e-3, "a wrong rule came out exact: the tests compare nothing"
    assert max(errors) > 0.1


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_mutant_without_residual(seed: int) -> None:
    """After a refusal, drawing from p instead of what p has beyond q."""
    target, draft = languages(seed)

    def emit(chance: object) -> list[int]:
        token = chance.draw(draft([]))  # type: ignore[attr-defined]
        if chance.accept(min(1.0, float(target([])[token] / draft([])[token]))):  # type: ignore[attr-defined]
            return [token]
        return [chance.draw(target([]))]  # type: ignore[attr-defined]

    assert distance(joint(emit, target), plain(target)) > 1e-3


def test_certain_and_impossible_tokens() -> None:
    """Probabilities of 0 and 1: no division by 0, nothing impossible emitted."""
    certain = torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=torch.double)
    even = torch.full((VOCABULARY,), 0.25, dtype=torch.double)
    wrong_then_right = DraftTree((0, 1), (ROOT, ROOT))
    p = torch.stack([certain, even, even])
    for emitted, weight in outcomes(lambda chance: verify_tree(wrong_then_right, p, chance)):
        assert emitted[0] == 1 and len(emitted) == 2 and weight == 0.25
    for emitted, _ in outcomes(lambda chance: verify_chain([1], torch.stack([certain, even]), p[:1], chance)):
        assert emitted[0] == 1
    same = DraftTree((2, 2), (ROOT, ROOT))
    only = torch.tensor([0.0, 0.5, 0.5, 0.0], dtype=torch.double)
    total = torch.zeros(VOCABULARY, dtype=torch.double)
    for emitted, weight in outcomes(lambda chance: verify_tree(same, only.expand(3, -1), chance)):
        total[emitted[0]] += weight
    assert distance(total, only) < EXACT


def test_greedy_follows_the_argmax() -> None:
    tree = DraftTree((5, 6, 7, 8), (ROOT, ROOT, 1, 2))
    assert verify_greedy(tree, [6, 0, 7, 8, 9]) == [6, 7, 8, 9]
    assert verify_greedy(tree, [6, 0, 1, 8, 9]) == [6, 1]
    assert verify_greedy(tree, [4, 0, 7, 8, 9]) == [4]
    assert verify_greedy(DraftTree(), [3]) == [3]


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_greedy_equals_decoding_alone(seed: int) -> None:
    target, draft = languages(seed)
    alone: list[int] = []
    while len(alone) < LENGTH:
        alone.append(int(target(alone).argmax()))
    for parents in (PARENTS, (ROOT, 0, 1), ()):
        tree = top_tree(draft, parents)
        best = rows(target, tree).argmax(dim=-1).tolist()
        emitted = verify_greedy(tree, best)
        assert emitted == alone[: len(emitted)]
    right = DraftTree.chain(alone[:3])
    assert verify_greedy(right, rows(target, right).argmax(dim=-1).tolist()) == alone


@pytest.mark.parametrize("rule", ["chain", "tree", "drawn tree", "match"])
def test_samples_of_one_round(rule: str) -> None:
    """χ² of 20,000 first two tokens against the target, with real randomness."""
    target, draft = Language(3, vocabulary=8), Language(4, vocabulary=8)
    chance = RandomChance(torch.Generator().manual_seed(7))
    counts = torch.zeros(8, 8, dtype=torch.double)
    rounds = 20_000
    fixed = DraftTree((0, 1, 2, 3), (ROOT, ROOT, 0, 0))
    for _ in range(rounds):
        if rule in ("tree", "match"):
            tree = fixed
        else:
            tree = drawn_tree(draft, (ROOT, 0) if rule == "chain" else (ROOT, ROOT, 0), chance)
        p = rows(target, tree)
        if rule == "chain":
            emitted = verify_chain(tree.tokens, p, rows(draft, tree)[:2], chance)
        elif rule == "tree":
            emitted = verify_tree(tree, p, chance)
        elif rule == "match":
            emitted = match_sampled(tree, lambda node, p=p: chance.draw(p[node + 1]))
        else:
            emitted = verify_drawn_tree(tree, p, rows(draft, tree), chance)
        if len(emitted) == 1:
            emitted.append(chance.draw(target(emitted)))
        counts[tuple(emitted[:2])] += 1
    expected = rounds * torch.stack([p * target([token]) for token, p in enumerate(target([]))])
    assert float(expected.min()) > 0
    large = expected >= 5
    pooled = expected[~large].sum()
    statistic = float(((counts - expected)[large] ** 2 / expected[large]).sum())
    freedom = int(large.sum()) - 1
    if pooled > 0:
        statistic += float((counts[~large].sum() - pooled) ** 2 / pooled)
        freedom += 1
    # Wilson and Hilferty: the cube root of χ²/n is nearly normal; 4 standard deviations.
    limit = freedom * (1 - 2 / (9 * freedom) + 4 * math.sqrt(2 / (9 * freedom))) ** 3
    assert statistic < limit, f"χ² {statistic:.1f} at {freedom} degrees, at most {limit:.1f}"


def test_all_small_trees_are_exact() -> None:
    """Every shape of up to three nodes, every token in every node."""
    target = Language(5, vocabulary=3)
    reference = plain(target)
    shapes = [shape for count in range(4) for shape in itertools.product(range(-1, 2), repeat=count)]
    shapes = [shape for shape in shapes if all(parent < node for node, parent in enumerate(shape))]
    assert len(shapes) == 10
    for shape in shapes:
        for tokens in itertools.product(range(3), repeat=len(shape)):
            tree = DraftTree(tokens, shape)
            emit = joint(lambda chance, t=tree: verify_tree(t, rows(target, t), chance), target)
            assert distance(emit, reference) < EXACT, tree
