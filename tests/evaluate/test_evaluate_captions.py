"""Caption metrics: published examples, cases by hand, and figures of COCO's own code for the same tokens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.evaluate.captions import bleu, caption_metrics, cider, rouge_l, tokens


def test_tokens_are_lower_case_words_without_punctuation():
    assert tokens("A red ship, near the 2.5 m quay; it's (very) big.") == [
        "a", "red", "ship", "near", "the", "2.5", "m", "quay", "it's", "very", "big",
    ]  # fmt: skip


def test_bleu_clips_repeated_words():
    """Papineni et al. 2002, example 2: a clipped unigram precision of 2/7."""
    references = [tokens("The cat is on the mat."), tokens("There is a cat on the mat.")]
    assert bleu([tokens("the the the the the the the")], [references])["BLEU-1"] == pytest.approx(2 / 7)


def test_bleu_of_a_shorter_reply_is_lowered_by_the_nearest_reference():
    scores = bleu([["a", "b", "c", "d"]], [[["a", "b", "c", "d", "e"], list("abcdefghi")]])
    assert scores["BLEU-4"] == pytest.approx(2.718281828 ** (1 - 5 / 4))


@pytest.mark.parametrize(
    ("reply", "common"),
    [("police kill the gunman", 3), ("the gunman kill police", 2), ("the gunman police killed", 2)],
)
def test_rouge_l_is_the_longest_common_subsequence(reply, common):
    """Lin 2004, section 3: both lengths are 4, so precision, recall and F agree."""
    assert rouge_l(tokens(reply), [tokens("police killed the gunman")]) == pytest.approx(common / 4)


def test_cider_of_repeating_the_reference_is_ten_and_rare_words_count():
    first, second = list("abcde"), list("vwxyz")
    assert cider([first, second], [[first], [second]]) == pytest.approx([10, 10])
    assert cider([second, first], [[first], [second]]) == pytest.approx([0, 0])
    assert cider([["a", "b", "c"], second], [[["a", "b", "c"]], [second]])[0] == pytest.approx(7.5), (
        "no 4-grams"
    )
    assert cider([first], [[first]]) == [0], "with one picture every word is in all of them"


def test_the_figures_are_those_of_cocos_code():
    """pycocoevalcap 1.2's BleuScorer, Rouge and CiderScorer (sigma 6) on these tokens, computed once."""
    replies = ["a red ship near the long pier", "two planes stand on the apron", "green fields and one farm"]
    references = [
        ["a red ship lies at the long pier", "one ship at a pier"],
        ["two planes are parked on the apron"],
        ["green fields with one farm and a lane", "fields with a farm"],
    ]
    assert caption_metrics(replies, references) == pytest.approx(
        {
            "BLEU-1": 0.8408529,
            "BLEU-2": 0.6908311,
            "BLEU-3": 0.4832651,
            "BLEU-4": 5.87e-05,
            "ROUGE-L": 0.7133341,
            "CIDEr": 2.8168386,
            "words": 6.0,
        },
        abs=1e-4,  # their code adds a trace to counts of zero, which shows where nothing of four words matches
    )


words = st.lists(st.sampled_from("abcdefg"), max_size=9).map(" ".join)


@given(st.lists(st.tuples(words, st.lists(words, min_size=1, max_size=3)), min_size=1, max_size=5))
@settings(max_examples=80, deadline=None)
def test_every_set_of_replies_has_figures_in_range(pairs):
    figures = caption_metrics([reply for reply, _ in pairs], [references for _, references in pairs])
    assert all(0 <= figures[name] <= 1 + 1e-9 for name in figures if name.startswith(("BLEU", "ROUGE")))
    assert 0 <= figures["CIDEr"] <= 10 + 1e-9


def test_no_replies_give_zeros():
    assert caption_metrics([], []) == {**dict.fromkeys(("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"), 0.0),
                                       "ROUGE-L": 0.0, "CIDEr": 0.0, "words": 0.0}  # fmt: skip
