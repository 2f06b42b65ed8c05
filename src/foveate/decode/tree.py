"""Trees of draft tokens, and how EAGLE-2 grows one.

Owns the record (tokens, parents, depths, who may see whom) and the choice of nodes by confidence. Knows no model: a
draft asks `TreeGrower` which tokens to look at next and hands in their log-probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from foveate.errors import FoveateError

ROOT = -1  # the last token decided, under which the tree hangs


@dataclass(frozen=True)
class DraftTree:
    """Draft tokens; each hangs under an earlier one, or under the last token decided (ROOT).

    Attributes:
        tokens: of every node.
        parents: index of every node's parent, smaller than its own, or ROOT.
    """

    tokens: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.tokens) == len(self.parents), (len(self.tokens), len(self.parents))
        for node, parent in enumerate(self.parents):
            assert ROOT <= parent < node, f"node {node} hangs under {parent}, which does not come before it"

    @classmethod
    def chain(cls, tokens: Sequence[int]) -> DraftTree:
        """Each token under the one before."""
        return cls(tuple(tokens), tuple(range(-1, len(tokens) - 1)))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_chain(self) -> bool:
        """Whether no node has a sibling."""
        return self.parents == tuple(range(-1, len(self.tokens) - 1))

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """Of every node; children of the root have 1."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent == ROOT else depths[parent] + 1)
        return tuple(depths)

    @property
    def depth(self) -> int:
        """Of the deepest node; 0 for a tree without any."""
        return max(self.depths, default=0)

    @cached_property
    def _children(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for node, parent in enumerate(self.parents):
            found.setdefault(parent, []).append(node)
        return found

    def children(self, node: int) -> Sequence[int]:
        """Nodes under a node or ROOT, in order."""
        return self._children.get(node, ())

    def child(self, node: int, token: int) -> int | None:
        """The first node under `node` that has this token."""
        return next((one for one in self.children(node) if self.tokens[one] == token), None)

    def path(self, node: int) -> list[int]:
        """Nodes from below the root to `node`, both included."""
        path: list[int] = []
        while node != ROOT:
            path.append(node)
            node = self.parents[node]
        return path[::-1]

    @cached_property
    def visible(self) -> torch.Tensor:
        """[1 + nodes, 1 + nodes] booleans over the root and the nodes: who sees whom. Each sees itself and those
        above it."""
        count = len(self.tokens) + 1
        mask = torch.zeros(count, count, dtype=torch.bool)
        mask[0, 0] = True
        for node, parent in enumerate(self.parents):
            mask[node + 1] = mask[parent + 1]
            mask[node + 1, node + 1] = True
        return mask

    def first(self, nodes: int, depth: int | None = None) -> DraftTree:
        """The first `nodes` of those nodes that are no deeper than `depth`."""
        if len(self) <= nodes and (depth is None or self.depth <= depth):
            return self
        kept: dict[int, int] = {ROOT: ROOT}  # old index: new index
        tokens: list[int] = []
        parents: list[int] = []
        for node, parent in enumerate(self.parents):
            if len(tokens) == nodes:
                break
            if parent in kept and (depth is None or self.depths[node] <= depth):
                kept[node] = len(tokens)
                tokens.append(self.tokens[node])
                parents.append(kept[parent])
        return DraftTree(tuple(tokens), tuple(parents))


@dataclass(frozen=True, kw_only=True)
class TreeShape:
    """How large a tree grows; the defaults are EAGLE-2's.

    Attributes:
        width: nodes of each layer that are expanded, and children each of them proposes (K).
        depth: layers (D).
        nodes: nodes that stay (N - 1 in the paper, which counts the root).

    Raises:
        FoveateError: a value below 1.
    """

    width: int = 10
    depth: int = 7
    nodes: int = 59

    def __post_init__(self) -> None:
        for name in ("width", "depth", "nodes"):
            if getattr(self, name) < 1:
                raise FoveateError(
                    f"The {name} of a draft tree is {getattr(self, name)}", why="it must be 1 or more"
                )


@dataclass(frozen=True, kw_only=True)
class _Grown:
    token: int
    parent: int
    value: float
    depth: int


class TreeGrower:
    """Grows a tree by confidence, layer by layer, then keeps the best nodes of all (EAGLE-2, Li et al. 2024,
    arXiv 2406.16858).

    A node's value is the sum of log-probabilities along its path; it never rises on the way down, so the best nodes
    of all layers always form a tree. Use: `grow` with the draft's log-probabilities after the root, then, while
    `frontier` names nodes, `grow` with those after each of them; `tree` when it names none, or sooner.

    Attributes:
        frontier: nodes whose children are wanted next, by their place in `tokens` and `parents`.
    """

    def __init__(self, shape: TreeShape) -> None:
        self._shape = shape
        self._nodes: list[_Grown] = []
        self.frontier: list[int] = [ROOT]

    @property
    def tokens(self) -> list[int]:
        """Of all nodes grown so far."""
        return [node.token for node in self._nodes]

    @property
    def parents(self) -> list[int]:
        """Of all nodes grown so far."""
        return [node.parent for node in self._nodes]

    def grow(self, logprobs: torch.Tensor) -> None:
        """Adds a layer.

        Args:
            logprobs: [len(frontier), V], the draft's, after each node of the frontier.
        """
        best = logprobs.double().topk(min(self._shape.width, logprobs.shape[1]), dim=-1)
        self.add(best.indices.tolist(), best.values.tolist())

    def add(self, tokens: Sequence[Sequence[int]], logprobs: Sequence[Sequence[float]]) -> None:
        """As `grow`, of each node's likeliest tokens, best first, and their log-probabilities."""
        assert len(tokens) == len(self.frontier), (len(tokens), len(self.frontier))
        depth = 1 if self.frontier == [ROOT] else self._nodes[self.frontier[0]].depth + 1
        width = self._shape.width
        layer: list[int] = []
        for parent, own_tokens, values in zip(self.frontier, tokens, logprobs, strict=True):
            above = 0.0 if parent == ROOT else self._nodes[parent].value
            for token, value in zip(own_tokens[:width], values[:width], strict=True):
                layer.append(len(self._nodes))
                self._nodes.append(_Grown(token=token, parent=parent, value=above + value, depth=depth))
        layer.sort(key=lambda node: -self._nodes[node].value)  # stable: the first of equals
        self.frontier = sorted(layer[:width]) if depth < self._shape.depth else []

    @property
    def hope(self) -> float:
        """The probability, by the draft, that the answer goes through a node of the frontier."""
        return sum(1.0 if node == ROOT else math.exp(self._nodes[node].value) for node in self.frontier)

    def tree(self, least: float = -math.inf) -> DraftTree:
        """The best nodes of all layers; of equals the higher ones, which keeps parents before children.

        Args:
            least: nodes of a lower value are left out.
        """
        order = [node for node, grown in enumerate(self._nodes) if grown.value >= least]
        order.sort(key=lambda node: -self._nodes[node].value)  # stable
        kept = {ROOT: ROOT}
        for node in sorted(order[: self._shape.nodes]):
            kept[node] = len(kept) - 1
        nodes = [self._nodes[node] for node in kept if node != ROOT]
        return DraftTree(tuple(node.token for node in nodes), tuple(kept[node.parent] for node in nodes))
