"""Drafts without an engine: n-grams, how deep pays, names and settings."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.decode.adaptive import Acceptance, StepCost, best_depth, expected_tokens
from foveate.decode.drafts.base import DraftError, DraftRequest
from foveate.decode.drafts.model import ModelDraft
from foveate.decode.drafts.ngram import NgramDraft
from foveate.decode.drafts.opening import open_draft
from foveate.decode.settings import SpeculationSettings, parse_speculation
from foveate.errors import FoveateError
from foveate.models.records import Prompt

PROMPT = Prompt(token_ids=[], media=[], spans=[], text="")


def request(tokens: list[int], *, key: int = 1, depth: int = 5, nodes: int = 9) -> DraftRequest:
    return DraftRequest(
        key=key,
        prompt=PROMPT,
        length=len(tokens),
        read=lambda start, stop: tokens[start:stop],
        depth=depth,
        nodes=nodes,
    )


def copied(draft: NgramDraft, tokens: list[int], **fields: int) -> list[int]:
    [tree] = draft.propose([request(tokens, **fields)])
    assert tree.is_chain
    return list(tree.tokens)


def test_ngrams_copy_what_followed() -> None:
    draft = NgramDraft()
    text = [1, 2, 3, 4, 5, 6, 7, 9, 2, 3]
    assert copied(draft, text) == [4, 5, 6, 7, 9]
    assert copied(draft, [*text, 4, 5], depth=2) == [6, 7]
    assert copied(draft, [*text, 4, 5], nodes=1) == [6]
    assert copied(draft, [*text, 4, 5, 8]) == []  # nothing ever followed 5 8
    assert copied(NgramDraft(), [1, 2], key=2) == []


def test_the_longest_run_wins_and_of_equals_the_latest() -> None:
    assert copied(NgramDraft(), [1, 2, 3, 10, 9, 2, 3, 20, 1, 2, 3], depth=1) == [10]
    assert copied(NgramDraft(), [2, 3, 10, 2, 3, 20, 7, 2, 3], depth=1) == [20]


def test_a_copy_goes_on_in_itself() -> None:
    assert copied(NgramDraft(), [5, 6, 5, 6], depth=5) == [5, 6, 5, 6, 5]
    assert copied(NgramDraft(), [8, 8, 8], depth=4) == [8, 8, 8, 8]


def test_placeholders_are_never_guessed() -> None:
    assert copied(NgramDraft(never=(99,)), [1, 2, 3, 99, 99, 1, 2]) == [3]
    assert copied(NgramDraft(never=(99,)), [1, 2, 99, 99, 1, 2]) == []


def test_answers_do_not_see_each_other() -> None:
    draft = NgramDraft()
    copied(draft, [1, 2, 3, 1, 2], key=1)
    assert copied(draft, [7, 1, 2], key=2) == []
    draft.forget(1)
    draft.forget(1)
    assert copied(draft, [1, 2], key=1) == []


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.data())
@settings(max_examples=100, deadline=None)
def test_ngrams_against_a_search_of_everything(tokens: list[int], data: st.DataObject) -> None:
    """However the tokens arrive, the copy is that of a plain search from the end."""
    draft = NgramDraft(longest=3, shortest=2)
    for stop in sorted(data.draw(st.sets(st.integers(1, len(tokens)), max_size=4))):
        copied(draft, tokens[:stop])
    want: list[int] = []
    for size in (3, 2):
        places = [
            place
            for place in range(size, len(tokens))
            if tokens[place - size : place] == tokens[len(tokens) - size :]
        ]
        if places and not want:
            long = list(tokens)
            for offset in range(5):
                long.append(long[places[-1] + offset])
            want = long[len(tokens) :]
    assert copied(draft, tokens) == want


def fitted(base: float, token: float, *, noise: float = 0.0, sizes: tuple[int, ...] = (1, 5)) -> StepCost:
    """The estimate after steps of these sizes at these costs."""
    cost, draw = StepCost(), random.Random(0)
    for _ in range(20):
        for size in sizes:
            cost.note(size, (base + token * size) * (1 + noise * draw.uniform(-1, 1)))
    return cost


def confident(share: float) -> Acceptance:
    """After many drafts of which this share was right at each place."""
    acceptance, draw = Acceptance(), random.Random(1)
    for _ in range(400):
        right = 0
        while right < 4 and draw.random() < share:
            right += 1
        acceptance.note(4, right)
    return acceptance


def test_costs_are_fitted_to_the_steps_seen() -> None:
    cost = fitted(0.1, 0.02)
    assert cost.is_known and abs(cost.token - 0.02) < 1e-9 and abs(cost(3) - 0.16) < 1e-9
    assert abs(fitted(0.1, 0.02, noise=0.1).token - 0.02) < 0.004
    same = fitted(0.1, 0.02, sizes=(5,))
    assert not same.is_known and same.token == 0 and abs(same(9) - 0.2) < 1e-9
    cost.note(5, 10.0)  # something else held the machine up
    assert cost(1) < 0.2


def test_what_was_seen_long_ago_is_looked_at_again() -> None:
    cost = fitted(0.1, 0.02)
    steps = 0
    while cost.is_known:
        cost.note(5, 0.2)
        steps += 1
    assert 20 < steps < 200
    assert (
        best_depth(confident(0.9), cost, most=4, nodes_per_depth=1, others=0) == 0
    )  # a step without drafts tells
    cost.note(1, 0.12)
    assert cost.is_known and abs(cost.token - 0.02) < 1e-9


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_the_share_of_right_guesses_is_found(share: float) -> None:
    """Near it at each moment, for it follows the latest drafts; on it in the mean."""
    acceptance, draw, seen = Acceptance(), random.Random(2), []
    for _ in range(2000):
        right = 0
        while right < 4 and draw.random() < share:
            right += 1
        acceptance.note(4, right)
        seen.append(acceptance.share)
    assert abs(sum(seen) / len(seen) - share) < 0.03
    assert max(abs(one - share) for one in seen[100:]) < 0.35


def test_expected_tokens_of_a_pass() -> None:
    assert expected_tokens(0.0, 5) == 1 and expected_tokens(1.0, 5) == 6
    assert abs(expected_tokens(0.5, 2) - (1 + 0.5 + 0.25)) < 1e-12


def test_depth_follows_cost_and_acceptance() -> None:
    free, dear = fitted(1.0, 0.0), fitted(0.1, 0.9)
    good, bad = confident(0.9), confident(0.1)
    depths = [
        best_depth(acceptance, cost, most=8, nodes_per_depth=1, others=0)
        for cost in (free, fitted(1.0, 0.1), dear)
        for acceptance in (good, bad)
    ]
    assert depths[0] == 8 and depths[1] == 8, "guesses that cost nothing are always worth it"
    assert 2 <= depths[2] <= 8 and depths[3] <= 1
    assert depths[4] <= 3 and depths[5] == 0


def test_the_best_depth_is_the_best_of_all() -> None:
    """Against the rates themselves, for many costs; a batch that fills the machine leaves nothing to gain."""
    for token in (0.01, 0.05, 0.2):
        for others in (0, 3, 31):
            for share in (0.2, 0.5, 0.8):
                for answers in (1, 5):
                    cost, acceptance = fitted(1.0, token), confident(share)
                    expected = [expected_tokens(acceptance.share, depth) for depth in range(9)]
                    rates = [
                        (others + answers * expected[depth])
                        / (1.0 + token * (others + answers * (1 + depth)))
                        for depth in range(9)
                    ]
                    depth = best_depth(
                        acceptance, cost, most=8, nodes_per_depth=1, answers=answers, others=others
                    )
                    assert abs(rates[depth] - max(rates)) < 1e-6
    for answers, others in ((1, 63), (64, 0)):
        full = best_depth(
            confident(0.5), fitted(0.1, 0.1), most=8, nodes_per_depth=1, answers=answers, others=others
        )
        assert full == 0


def test_the_cost_of_drafting_counts() -> None:
    cost = fitted(1.0, 0.01)
    deep = best_depth(confident(0.6), cost, most=8, nodes_per_depth=1, others=0)
    cost.note_draft(4, 4 * 0.4)
    cost.note_draft(0, 1.0)
    assert cost.layer == pytest.approx(0.4)
    alone, together = (
        best_depth(confident(0.6), cost, most=8, nodes_per_depth=1, answers=answers, others=16 - answers)
        for answers in (1, 16)
    )
    assert alone == 0 < together < deep, "answers share the calls of a layer"


def test_an_answer_may_begin_with_what_others_showed() -> None:
    assert Acceptance().share == pytest.approx(0.7) and Acceptance(0.2).share == pytest.approx(0.2)


def target(vocabulary: dict[str, int]) -> Any:
    return SimpleNamespace(
        tokenizer=SimpleNamespace(get_vocab=lambda: vocabulary),
        image_token_id=7,
        visual_token_ids=frozenset({7}),
        ref="a target",
        family="none",
        text_config=SimpleNamespace(vocab_size=10, hidden_size=4),
    )


def test_names_of_drafts() -> None:
    model = target({"a": 0})
    assert open_draft("ngram", model).name == open_draft("auto", model).name == "ngram"
    with pytest.raises(DraftError, match=r"There is no draft 'ngrm'.*(\n.*)*ngram"):
        open_draft("ngrm", model)
    with pytest.raises(DraftError, match=r"no draft '\./nowhere'"):
        open_draft("./nowhere", model)


def test_a_model_of_another_vocabulary_is_refused() -> None:
    with pytest.raises(
        DraftError, match=r"cannot draft for a target: .*share a vocabulary, and 1 of 2 tokens differ"
    ):
        ModelDraft(target({"a": 0, "b": 2}), target({"a": 0, "b": 1}))
    with pytest.raises(DraftError, match="the vocabularies have 1 and 2 tokens"):
        ModelDraft(target({"a": 0}), target({"a": 0, "b": 1}))


def test_settings() -> None:
    assert parse_speculation("off") is None
    assert parse_speculation("auto") == SpeculationSettings()
    assert parse_speculation("someone/head") == SpeculationSettings(draft="someone/head")
    for name in ("ngrm", "./nowhere"):
        with pytest.raises(FoveateError, match="There is no draft"):
            parse_speculation(name)
    with pytest.raises(FoveateError, match="depth of drafts is 0"):
        SpeculationSettings(depth=0)
    with pytest.raises(FoveateError, match="draft is 'off'"):
        SpeculationSettings(draft="off")
