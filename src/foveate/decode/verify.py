"""Which draft tokens stay, as functions of probabilities: the rules that leave the target's distribution as it is.

Owns four rules, each exact on its own terms, and nothing else: no model, no cache, no sampling parameters. `p` is
always the target's distribution after temperature, top-k, top-p, penalties and constraint; `q` the distribution
the draft token was really drawn from.

- `verify_greedy`: any tree, temperature 0.
- `verify_chain`: a chain whose tokens were drawn from q (Leviathan et al. 2023, arXiv 2211.17192; Chen et al.
  2023, arXiv 2302.01318).
- `verify_tree`: any tree that was chosen without looking at the randomness used here; q plays no part. The rule of
  EAGLE-2's code (Li et al. 2024, arXiv 2406.16858).
- `verify_drawn_tree`: a tree whose children were drawn independently from q (SpecInfer, Miao et al. 2024,
  arXiv 2305.09781).

Ratios p/q belong to tokens that were drawn from q. A tree of the q-likeliest tokens under the last rule is *not*
exact; tests/decode/test_decode_verify.py shows how far off it is.

The engine decodes by a fifth way of writing the third rule, `match_sampled`: draw the target's token as if there
were no draft, and go on along the child that has it. A child c is reached with probability p(c) either way, so as
many tokens are accepted as by `verify_tree`; and because each draw is the plain run's own, with the request's
generator, penalties and constraint as they stand at that token, the answer is the plain run's to the last token,
whatever was drafted.

Every function asks a `Chance` for its randomness, so that tests can walk through all outcomes with their
probabilities instead of sampling them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from foveate.decode.tree import ROOT, DraftTree


class Chance(Protocol):
    """Where the randomness of a verification comes from."""

    def accept(self, probability: float) -> bool:
        """True with this probability."""
        ...

    def draw(self, probabilities: torch.Tensor) -> int:
        """An index of probabilities [V], which sum to 1."""
        ...


# Of a node, what is left of p there, and a child's token: how likely the child is accepted, and what is left if not.
_Rule = Callable[[int, torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]


class RandomChance:
    """Randomness from a generator of the caller's."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def accept(self, probability: float) -> bool:
        return float(torch.rand((), dtype=torch.double, generator=self._generator)) < probability

    def draw(self, probabilities: torch.Tensor) -> int:
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


def verify_greedy(tree: DraftTree, best: Sequence[int]) -> list[int]:
    """The tokens to emit at temperature 0: what greedy decoding alone would have said.

    Args:
        best: the target's likeliest token after the root, then after every node: [1 + nodes].
    """
    return match_sampled(tree, lambda node: best[node + 1])


def match_sampled(tree: DraftTree, choose: Callable[[int], int]) -> list[int]:
    """The tokens to emit when the target's own choice at each node decides.

    Args:
        choose: the target's token after a node (ROOT for the last token decided), by whatever rule the plain run
            has. Asked once per emitted token, in order, and for no node that is not reached.

    Returns:
        the accepted drafts and one token more.
    """
    emitted: list[int] = []
    node: int | None = ROOT
    while node is not None:
        token = choose(node)
        emitted.append(token)
        node = tree.child(node, token)
    return emitted


def verify_chain(
    drafts: Sequence[int], targets: torch.Tensor, drawn_from: torch.Tensor, chance: Chance
) -> list[int]:
    """The tokens to emit of a chain whose tokens were drawn one after the other.

    Args:
        drafts: n tokens.
        targets: [n + 1, V]: p after the root, then after every draft.
        drawn_from: [n, V]: q of every draft.

    Returns:
        the accepted drafts, then a token from what p has beyond q, or from p where all passed.
    """
    emitted: list[int] = []
    for index, token in enumerate(drafts):
        p, q = targets[index], drawn_from[index]
        assert q[token] > 0, f"draft {index} cannot have been drawn: its probability is 0"
        if not chance.accept(min(1.0, float(p[token] / q[token]))):
            return [*emitted, chance.draw(_beyond(p, q))]
        emitted.append(token)
    return [*emitted, chance.draw(targets[len(drafts)])]


def verify_tree(tree: DraftTree, targets: torch.Tensor, chance: Chance) -> list[int]:
    """The tokens to emit of any tree, whatever its tokens were chosen by.

    Args:
        targets: [1 + nodes, V]: p after the root, then after every node.
    """
    return _descend(
        tree, targets, chance, lambda _, remaining, token: (remaining[token], _without(remaining, token))
    )


def verify_drawn_tree(
    tree: DraftTree, targets: torch.Tensor, drawn_from: torch.Tensor, chance: Chance
) -> list[int]:
    """The tokens to emit of a tree whose children were drawn independently, with replacement, from q.

    Args:
        targets: [1 + nodes, V]: p after the root, then after every node.
        drawn_from: [1 + nodes, V]: the q that the children of the root, then of every node, were drawn from; rows
            of nodes without children are not read.
    """

    def rule(node: int, remaining: torch.Tensor, token: int) -> tuple[torch.Tensor, torch.Tensor]:
        q = drawn_from[node + 1]
        assert q[token] > 0, f"a child of node {node} cannot have been drawn: its probability is 0"
        return remaining[token] / q[token], _beyond(remaining, q)

    return _descend(tree, targets, chance, rule)


def _descend(tree: DraftTree, targets: torch.Tensor, chance: Chance, rule: _Rule) -> list[int]:
    """Tries a node's children in turn and goes on below the first that is accepted; where none is, draws from what
    the refusals left of the target's distribution."""
    emitted: list[int] = []
    node: int | None = ROOT
    while node is not None:
        remaining, following = targets[node + 1], None
        for child in tree.children(node):
            probability, otherwise = rule(node, remaining, tree.tokens[child])
            if chance.accept(min(1.0, float(probability))):
                following = child
                break
            remaining = otherwise
        token = chance.draw(remaining) if following is None else tree.tokens[following]
        emitted.append(token)
        node = following
    return emitted


def _without(p: torch.Tensor, token: int) -> torch.Tensor:
    """p given that it was not this token."""
    rest = p.clone()
    rest[token] = 0
    return _normalised(rest, p)


def _beyond(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """What p has more than q, normalised."""
    return _normalised((p - q).clamp(min=0), p)


def _normalised(rest: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Sums to 1. A rest of 0 is reached by rounding alone (a token of probability 1 that was refused all the same):
    then p itself is right."""
    total = float(rest.sum())
    return rest / total if total > 0 else p
