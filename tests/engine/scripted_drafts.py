"""Drafts that know the answer and spoil it: right guesses, wrong ones beside and between them, none at all."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch

from foveate.decode.drafts.base import Draft, DraftRequest, Observation
from foveate.decode.tree import DraftTree

Guess = Callable[[DraftRequest, Sequence[int]], Sequence[int]]  # likely next tokens after a path of guesses


class SpoiledDraft(Draft):
    """Grows a random tree (or chain) along guesses; of each node's guess, a share is replaced by noise.

    Args:
        guess: likely tokens after a request's decided tokens and a path.
        vocabulary: noise is drawn from it.
        silent: share of requests that get no draft.
    """

    name = "spoiled"

    def __init__(
        self,
        guess: Guess,
        vocabulary: int,
        *,
        tree: bool,
        wrong: float = 0.2,
        silent: float = 0.2,
        depth: int = 4,
        nodes: int = 9,
        seed: int = 0,
    ) -> None:
        self._guess, self._vocabulary, self._tree = guess, vocabulary, tree
        self._wrong, self._silent = wrong, silent
        self._random = random.Random(seed)
        self.depth, self.nodes = depth, nodes
        self.forgotten: list[int] = []

    def propose(self, requests: Sequence[DraftRequest]) -> list[DraftTree]:
        return [self._grow(request) for request in requests]

    def _grow(self, request: DraftRequest) -> DraftTree:
        draw = self._random
        if draw.random() < self._silent:
            return DraftTree()
        tokens: list[int] = []
        parents: list[int] = []
        paths: list[list[int]] = [[]]  # of the root, then of every node
        while len(tokens) < request.nodes:
            open_paths = [place for place, path in enumerate(paths) if len(path) < request.depth]
            if not open_paths or (not self._tree and len(paths[-1]) == request.depth):
                break
            place = draw.choice(open_paths) if self._tree else len(paths) - 1
            used = [tokens[node] for node, parent in enumerate(parents) if parent == place - 1]
            likely = [one for one in self._guess(request, paths[place]) if one not in used]
            noise = draw.randrange(self._vocabulary)
            token = noise if not likely or draw.random() < self._wrong else likely[0]
            tokens.append(token)
            parents.append(place - 1)
            paths.append([*paths[place], token])
        return DraftTree(tuple(tokens), tuple(parents))

    def forget(self, key: int) -> None:
        self.forgotten.append(key)


def knows(answers: dict[tuple[int, ...], Sequence[int]]) -> Guess:
    """Guesses from whole answers by prompt, as long as what was decided and the path agree with them."""

    def guess(request: DraftRequest, path: Sequence[int]) -> Sequence[int]:
        prompt = request.prompt.token_ids
        answer = answers.get(tuple(prompt), ())
        place = request.length - len(prompt) + len(path)
        return answer[place : place + 1]

    return guess


class RecordingDraft(SpoiledDraft):
    """Keeps what it is shown, as an EAGLE head would: rows by token, replaced where an answer is computed anew."""

    name = "recording"
    observes = True

    def __init__(self, *arguments: object, taps: tuple[int, ...] = (), **keywords: object) -> None:
        super().__init__(*arguments, **keywords)  # type: ignore[arg-type]
        self.tap_layers = taps
        self.shown: dict[int, dict[int, tuple[int, torch.Tensor, torch.Tensor, dict[int, torch.Tensor]]]] = {}
        self.ended: dict[int, dict] = {}

    def observe(self, observations: Sequence[Observation]) -> None:
        for one in observations:
            rows = self.shown.setdefault(one.key, {})
            for place in [place for place in rows if place >= one.start]:
                del rows[place]
            count = len(one.tokens)
            assert one.hidden.shape[0] == one.embeds.shape[0] == one.positions.shape[1] == count
            for index, token in enumerate(one.tokens):
                taps = {layer: state[index] for layer, state in one.taps.items()}
                rows[one.start + index] = (token, one.hidden[index], one.positions[:, index], taps)

    def clone(self, source: int, target: int) -> None:
        assert target not in self.shown
        self.shown[target] = dict(self.shown[source])

    def propose(self, requests: Sequence[DraftRequest]) -> list[DraftTree]:
        for request in requests:
            rows = self.shown[request.key]
            assert request.length - 2 in rows, "the features of the last token that was run are missing"
            assert max(rows) == request.length - 2, "features of tokens that were not decided"
            for place, (token, *_) in rows.items():
                assert list(request.read(place, place + 1)) == [token]
        return super().propose(requests)

    def forget(self, key: int) -> None:
        super().forget(key)
        self.ended[key] = self.shown.pop(key, {})
