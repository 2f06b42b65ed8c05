"""A head as a draft, without an engine: what it guesses is what one parallel run over all tokens says, however
they came."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_decode_heads import COMPRESSED, GATED, WIDTH, head_of, picture_of, plain_layer

from foveate.decode.drafts.base import DraftRequest, Observation
from foveate.decode.heads.draft import HeadDraft
from foveate.decode.heads.layout import layout_of
from foveate.decode.heads.model import DraftHead
from foveate.decode.heads.words import Words
from foveate.decode.tree import ROOT, DraftTree, TreeGrower, TreeShape
from foveate.models.records import Prompt

SEEDS = 6
WHATEVER: dict[str, Any] = {
    "least_node": 0.0,
    "least_layer": 0.0,
    "remembered": 0,
}  # however unlikely guesses are
VOCABULARY, VISUAL = 23, 22
PROMPT = [3, 5, VISUAL, VISUAL, VISUAL, VISUAL, 7, 1, *[VISUAL] * 6, 2, 9, 4]
SPANS = [(2, 6), (8, 14)]


def target_of(seed: int = 0) -> Any:
    """As much of a target as a head's draft looks at."""
    torch.manual_seed(100 + seed)
    embedding, head = torch.nn.Embedding(VOCABULARY, WIDTH), torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
    return SimpleNamespace(
        hf_model=SimpleNamespace(get_input_embeddings=lambda: embedding, lm_head=head),
        head=head,
        text_config=SimpleNamespace(hidden_size=WIDTH),
        visual_token_ids=frozenset({VISUAL}),
        dtype=torch.float32,
        device=torch.device("cpu"),
    )


class Told:
    """One answer as the target has it: tokens, what entered it and what came out, all drawn from the seed."""

    def __init__(self, head: DraftHead, target: Any, seed: int, *, prompt: Prompt | None = None) -> None:
        draw = random.Random(seed)
        generator = torch.Generator().manual_seed(seed)
        self.prompt = prompt or Prompt(token_ids=list(PROMPT), media=[], spans=SPANS, text="")
        self.tokens = [*self.prompt.token_ids, *(draw.randrange(VOCABULARY - 1) for _ in range(40))]
        self.embeds = target.hf_model.get_input_embeddings()(torch.tensor(self.tokens)).detach()
        pictures = torch.randn(len(PROMPT), WIDTH, generator=generator)
        for place, token in enumerate(self.prompt.token_ids):
            if token == VISUAL:
                self.embeds[place] = pictures[place]
        self.states = torch.randn(len(self.tokens), head.feature_size, generator=generator)
        self.first = 0

    def observation(self, key: int, start: int, stop: int, taps: tuple[int, ...]) -> Observation:
        states = self.states[start:stop]
        split = dict(zip(taps, states.split(WIDTH, dim=1), strict=True)) if taps else {}
        return Observation(
            key=key,
            prompt=self.prompt,
            start=start,
            tokens=self.tokens[start:stop],
            embeds=self.embeds[start:stop],
            positions=torch.arange(start, stop)[None],
            hidden=states[:, :WIDTH],
            taps=split,
        )

    def request(self, key: int, length: int, *, depth: int, nodes: int) -> DraftRequest:
        return DraftRequest(
            key=key,
            prompt=self.prompt,
            length=length,
            read=lambda start, stop: self.tokens[start:stop],
            depth=depth,
            nodes=nodes,
        )

    def ahead(self, head: DraftHead, target: Any, length: int, path: list[int]) -> torch.Tensor:
        """[V] log-probabilities after `length` decided tokens and a path of guesses, by one parallel run."""
        words = target.hf_model.get_input_embeddings()(torch.tensor(path, dtype=torch.long))
        embeds = torch.cat([self.embeds[self.first : length], words])
        states = torch.cat([self.states[self.first : length], torch.zeros(len(path), head.feature_size)])
        layout = layout_of(self.prompt, {VISUAL}, length=length + len(path)).behind(self.first)
        guessed = head(embeds[None], states[None], [layout], steps=len(path) + 1)
        return head.logits(guessed[-1][0, -1], target.head).log_softmax(dim=-1)

    def tree(
        self,
        head: DraftHead,
        target: Any,
        request: DraftRequest,
        width: int,
        *,
        node: float = 0,
        layer: float = 0,
    ) -> DraftTree:
        """What it should guess."""
        chain = request.nodes <= request.depth
        nodes = request.nodes
        grower = TreeGrower(
            TreeShape(width=1 if chain else width, depth=min(request.depth, request.nodes), nodes=nodes)
        )
        while grower.frontier and grower.hope >= layer:
            rows = []
            for place in grower.frontier:
                path: list[int] = []
                while place != ROOT:
                    path.insert(0, grower.tokens[place])
                    place = grower.parents[place]
                spread = torch.full((VOCABULARY,), -torch.inf)
                columns = head.token_ids if head.token_ids is not None else torch.arange(VOCABULARY)
                spread[columns] = self.ahead(head, target, request.length, path)
                rows.append(spread)
            grower.grow(torch.stack(rows))
        return grower.tree(math.log(node) if node else -math.inf)


KINDS = [(None, "eagle3"), ("vispec:3", "eagle3"), *((one, "eagle2") for one in (*COMPRESSED, *GATED))]


@pytest.mark.parametrize(("compress", "kind"), KINDS)
@torch.no_grad()
def test_guesses_are_those_of_one_parallel_run(compress: str | None, kind: str) -> None:
    """Three answers at once, decided some tokens at a time; chains, trees, and both in one call."""
    head, target = head_of(compress, kind=kind), target_of()
    draft = HeadDraft(head, target, shape=TreeShape(width=3, depth=4, nodes=9), **WHATEVER)
    told = {key: Told(head, target, seed=key) for key in (1, 2, 3)}
    told[3].prompt = Prompt(token_ids=[3, 1, 4, 1], media=[], spans=[], text="")
    told[3].embeds[: len(PROMPT)] = target.hf_model.get_input_embeddings()(
        torch.tensor([*[3, 1, 4, 1], *[2] * (len(PROMPT) - 4)])
    )
    told[3].tokens[: len(PROMPT)] = [*[3, 1, 4, 1], *[2] * (len(PROMPT) - 4)]
    lengths = {key: len(one.prompt.token_ids) + 1 for key, one in told.items()}
    seen = dict.fromkeys(told, 0)
    for step, sizes in enumerate([(1, 1, 1), (3, 1, 2), (1, 4, 1), (2, 2, 2)]):
        draft.observe(
            [one.observation(key, seen[key], lengths[key] - 1, draft.tap_layers) for key, one in told.items()]
        )
        seen = {key: length - 1 for key, length in lengths.items()}
        shapes = {0: [(4, 9)] * 3, 1: [(3, 3)] * 3, 2: [(4, 4), (2, 6), (1, 1)], 3: [(2, 5)] * 3}[step]
        requests = [
            one.request(key, lengths[key], depth=depth, nodes=nodes)
            for (key, one), (depth, nodes) in zip(told.items(), shapes, strict=True)
        ]
        for request, tree in zip(requests, draft.propose(requests), strict=True):
            assert tree == told[request.key].tree(head, target, request, width=3)
        lengths = {key: length + size for (key, length), size in zip(lengths.items(), sizes, strict=True)}


@pytest.mark.parametrize("seed", range(SEEDS))
@torch.no_grad()
def test_however_tokens_are_observed(seed: int) -> None:
    """In chunks that cut pictures, computed anew from anywhere, behind a gap, split off: always as the parallel run of
    what is known."""
    draw = random.Random(seed)
    compress = draw.choice([None, "text", "select", "vispec:3", "pool:4"])
    head, target = head_of(compress, kind=draw.choice(["eagle2", "eagle3"]), seed=seed), target_of(seed)
    draft = HeadDraft(head, target, **WHATEVER)
    told = {key: Told(head, target, seed=10 * seed + key) for key in range(3)}
    seen, lengths = dict.fromkeys(told, 0), dict.fromkeys(told, len(PROMPT) + 1)
    checked = 0
    for step in range(60):
        key = draw.choice(list(told))
        one, action = told[key], draw.random()
        if action < 0.1:  # preempted, and computed anew with a part of it in the prefix cache
            if draw.random() < 0.5:
                draft.forget(key)
                one.first = seen[key] = draw.choice([0, draw.randrange(lengths[key] - 1)])
            else:
                start = draw.randrange(seen[key]) if seen[key] else 0
                if start <= one.first or start < len(PROMPT):
                    one.first = start
                seen[key] = start
        if action < 0.15 and seen[key] == len(PROMPT) == lengths[key] - 1:
            twin = len(told) + step
            draft.clone(key, twin)
            told[twin] = Told(head, target, seed=10 * seed + key)
            told[twin].first, seen[twin], lengths[twin] = one.first, seen[key], lengths[key]
        if seen[key] < lengths[key] - 1:
            stop = draw.randrange(seen[key], lengths[key] - 1) + 1
            draft.observe([one.observation(key, seen[key], stop, draft.tap_layers)])
            seen[key] = stop
        ready = [name for name in told if seen[name] == lengths[name] - 1]
        if ready and draw.random() < 0.4:
            requests = [told[name].request(name, lengths[name], depth=2, nodes=2) for name in ready]
            for request, tree in zip(requests, draft.propose(requests), strict=True):
                checked += 1
                assert tree == told[request.key].tree(head, target, request, width=1)
        if key in ready:
            lengths[key] = min(lengths[key] + draw.randrange(1, 4), len(one.tokens) - 4)
    assert checked > 4


@pytest.mark.parametrize("compress", [None, "vispec:3"])
@torch.no_grad()
def test_the_table_of_words_is_the_joint(compress: str | None) -> None:
    head, embed = head_of(compress), torch.nn.Embedding(9, WIDTH)
    features, glances = torch.randn(4, WIDTH), torch.randn(4, WIDTH) if compress else None
    ids = [3, 8, 0, 3]
    want = head.join(embed(torch.tensor(ids)), features, glances)
    for largest in (9 * WIDTH * 4, 9 * WIDTH * 4 - 1):
        words = Words(head, embed, torch.device("cpu"), largest=largest)
        assert (words._table is not None) == (largest == 9 * WIDTH * 4)
        for tokens in (ids, torch.tensor(ids)):
            assert torch.allclose(words.inputs(tokens, features, glances), want, atol=1e-5)


@pytest.mark.parametrize(("depth", "nodes"), [(4, 4), (4, 12)])
@torch.no_grad()
def test_guesses_that_would_not_pay_are_left_out(depth: int, nodes: int) -> None:
    """Unlikely nodes, and layers below a frontier that is unlikely as a whole; among many an answer is drafted as if it
    were alone."""
    head, target = head_of(), target_of()
    target.head.weight.mul_(2.5)  # sure of some tokens
    least = {"node": 0.1, "layer": 0.4}
    draft = HeadDraft(
        head, target, shape=TreeShape(width=3, depth=4, nodes=9), least_node=0.1, least_layer=0.4
    )
    told = {key: Told(head, target, seed=key) for key in range(12)}
    length = len(PROMPT) + 1
    draft.observe([one.observation(key, 0, length - 1, ()) for key, one in told.items()])
    requests = [one.request(key, length, depth=depth, nodes=nodes) for key, one in told.items()]
    trees = draft.propose(requests)
    alone = [told[request.key].tree(head, target, request, width=3, **least) for request in requests]
    whole = [told[request.key].tree(head, target, request, width=3) for request in requests]
    assert trees == alone
    assert len({len(tree) for tree in trees}) > 2 and 0 < sum(map(len, trees)) < sum(map(len, whole))


@pytest.mark.parametrize("compress", [None, "select", "vispec:3"])
@torch.no_grad()
def test_an_answer_that_splits_off_goes_its_own_way(compress: str | None) -> None:
    """Behind one prompt that is read once; what one is told later the other never sees."""
    head, target = head_of(compress), target_of()
    draft = HeadDraft(head, target, **WHATEVER)
    one, other = Told(head, target, seed=1), Told(head, target, seed=2)
    length = len(PROMPT)
    other.embeds[:length], other.states[:length] = one.embeds[:length], one.states[:length]
    draft.observe([one.observation(1, 0, length, ())])
    draft.clone(1, 2)
    rows = draft._readings[1].cache.rows
    assert (
        rows
        == draft._readings[2].cache.rows
        == len(head.rows(one.embeds, one.states, layout_of(one.prompt, {VISUAL}, length=length)).inputs)
    )
    for decided in (1, 3):
        both = [told.request(key, length + decided, depth=2, nodes=2) for key, told in ((1, one), (2, other))]
        trees = draft.propose(both)
        assert trees == [one.tree(head, target, both[0], 1), other.tree(head, target, both[1], 1)]
        for key, told in ((1, one), (2, other)):
            draft.observe([told.observation(key, length + decided - 1, length + 2, ())])
    draft.forget(1)
    draft.forget(1)
    assert list(draft._readings) == [2]


@pytest.mark.parametrize("start", [1, 7, 8, 11, 15, 17])
@pytest.mark.parametrize(("compress", "kind"), KINDS)
@torch.no_grad()
def test_prompts_that_begin_alike_go_on_from_rows_of_earlier_ones(
    compress: str | None, kind: str, start: int
) -> None:
    """What stood in the prefix cache is not observed, and guesses are as if it had been, but for the row of the first
    token that was: it reads the state before it."""
    if compress is not None and start == 11:
        return  # within a picture: its tokens behind are compressed for themselves
    head, target = head_of(compress, kind=kind), target_of()
    draft = HeadDraft(head, target, **{**WHATEVER, "remembered": 1 << 20})
    told, length = Told(head, target, seed=1), len(PROMPT) + 3
    draft.observe([told.observation(1, 0, length - 1, draft.tap_layers)])
    draft.propose([told.request(1, length, depth=2, nodes=2)])
    if start % 2:
        draft.forget(1)  # ended, or still there: both will do
    draft.observe([told.observation(2, start, length - 1, draft.tap_layers)])
    [tree] = draft.propose([told.request(2, length, depth=1, nodes=1)])
    layout = layout_of(told.prompt, {VISUAL}, length=length)
    rows = head.rows(told.embeds[:length], told.states, layout)
    left_out = (rows.places == start) & rows.is_text
    if compress is None or not compress.startswith("vispec") or not 2 < start < 14:
        # Else the glance of the first picture is not kept: a reading knows that of its last alone.
        inputs = rows.inputs[~left_out]
        assert tree.tokens == (int(head.logits(plain_layer(head, inputs), target.head).argmax()),)
        assert draft._readings[2].cache.rows == len(inputs)
    found = draft._readings[2]
    assert found.tokens == told.tokens[: length - 1] and len(found.ends) == found.cache.rows


@torch.no_grad()
def test_rows_of_other_prompts_and_too_many_of_them_are_not_kept() -> None:
    head, target = head_of(), target_of()
    told = Told(head, target, seed=1)
    length = len(PROMPT) + 1
    told.prompt.media = [picture_of(1, 4, digest="a"), picture_of(1, 6, digest="b")]

    def rows_for(draft: HeadDraft, *, start: int = 15, token: int | None = None, digest: str = "b") -> int:
        """Of a prompt that differs in a token or a picture, found in the prefix cache up to `start`."""
        other = Told(head, target, seed=1)
        other.prompt.media = [told.prompt.media[0], picture_of(1, 6, digest=digest)]
        if token is not None:
            other.prompt.token_ids[1] = other.tokens[1] = token
        draft.observe([other.observation(9, start, length - 1, ())])
        rows = draft._readings[9].cache.rows
        draft._readings.clear()
        return rows

    def answered(most: int, count: int = 1) -> HeadDraft:
        draft = HeadDraft(head, target, **{**WHATEVER, "remembered": most})
        for key in range(count):
            draft.observe([told.observation(key, 0, length - 1, ())])
            draft.propose([told.request(key, length, depth=1, nodes=1)])
            draft.forget(key)
        return draft

    one = 2 * 64 * 2 * 6 * 4  # bytes of a cache of the least size
    assert rows_for(answered(1 << 20)) == 14
    assert rows_for(answered(1 << 20), start=3) == 2
    assert rows_for(answered(1 << 20), token=6) == 0
    assert rows_for(answered(1 << 20), digest="c") == 0
    assert rows_for(answered(1 << 20), digest="c", start=8) == 7
    assert rows_for(answered(one - 1)) == 0
    for count in (1, 5):
        draft = answered(2 * one, count)
        assert len(draft._remembered._kept) == min(count, 2) and draft._remembered._bytes <= 2 * one
        assert rows_for(draft) == 14
