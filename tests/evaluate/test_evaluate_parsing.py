"""Reading answers: a table of awkward replies, and that nothing is read where nothing was said."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.evaluate import parsing
from foveate.evaluate.numerals import UNITS, WORDS
from foveate.evaluate.parsing import is_refusal, read_choice, read_number, read_word, read_yes_no, verdict

STARS = {"A": "cat", "B": "red star", "C": "blue star", "D": "none of these"}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("[b].", "B"),
        ("B.", "B"),
        ("**B**", "B"),
        ("$\\boxed{B}$", "B"),
        ("\\boxed{\\text{B}}", "B"),
        ("<answer>B</answer>", "B"),
        ("Option B", "B"),
        ("Answer: B", "B"),
        ("The answer is B because the star is red.", "B"),
        ("The correct option is (B).", "B"),
        ("B. red star", "B"),
        ("B) Red star", "B"),
        ("B: red star", "B"),
        ("B red star", "B"),
        ("B, since C is blue.", "B"),
        ("B. It cannot be (C), which is blue.", "B"),
        ("red star", "B"),
        ("The red star.", "B"),
        ("It is the red star", "B"),
        ("none of these", "D"),
        ("I first thought of C.\nLooking again it is red.\nB", "B"),
        ("The answer is A. Looking again: final answer: B", "B"),
        ("<think>A? No, the star is red.</think>B", "B"),
        # contradictions
        ("A or B", None),
        ("A and B", None),
        ("A, B", None),
        ("A/B", None),
        ("(A) or (B)", None),
        ("The answer is A or B", None),
        ("A. red star", None),
        ("The answer is A. The answer is B.", None),
        ("A. The answer is B.", None),
        ("\\boxed{A} \\boxed{B}", None),
        ("B\nC", None),
        # absent
        ("", None),
        ("E", None),
        ("A star is seen", None),
        ("A cat sits there", None),
        ("I see a star", None),
        ("not B", None),
        ("The star is red", None),
        ("It could be the red star", None),
        ("<think>B", None),
        ("42", None),
        ("ABBA", None),
        ("Because", None),
        ("I cannot see the image.", None),
    ],
)
def test_choices(reply, expected):
    assert read_choice(reply, STARS) == expected


def test_labels_alone_and_digits():
    assert read_choice("2", ("1", "2", "3")) == "2"
    assert read_choice("12", ("1", "2", "3")) is None
    assert read_choice("10.", [str(n) for n in range(1, 12)]) == "10"
    assert read_choice("The answer is 1", [str(n) for n in range(1, 12)]) == "1"
    assert read_choice("I", [*"ABCDEFGHI"]) == "I"
    assert read_choice("I think so", [*"ABCDEFGHI"]) is None


NINE = dict.fromkeys("ABCDEFGHI", "")
RIDERS = {"A": "a woman", "B": "a man riding a horse"}
PETS = {"A": "cat", "B": "dog", "C": "fish"}


@pytest.mark.parametrize(
    ("reply", "options", "expected"),
    [
        # words that look like labels
        ("Answer: A man is riding a horse.", RIDERS, None),
        ("Answer: A man riding a horse.", RIDERS, "B"),
        ("Final answer: I cannot tell", NINE, None),
        ("Answer: I think it is B.", NINE, None),
        ("The answer is I.", NINE, "I"),
        ("B. I think so.", NINE, "B"),
        ("2.5", ("1", "2", "5"), None),
        # taken back
        ("(A) is incorrect, so it must be (B).", PETS, None),
        ("A) is not correct.", PETS, None),
        ("(A) cat is not correct.", PETS, None),
        ("A isn't right", PETS, None),
        ("A: no. B: yes.", PETS, None),
        ("A. No, B.", PETS, None),
        ("Answer: A. Actually B.", PETS, None),
        ("Answer: A. B is the correct answer", PETS, None),
        ("The answer is A.\nB", PETS, None),
        # a list of the options
        ("A. cat\nB. dog\nC. fish", PETS, None),
        ("(A) cat (B) dog (C) fish", PETS, None),
        ("A. cat\nB. dog\nC. fish\nAnswer: B", PETS, "B"),
        ("A. cat\nB. dog\nC. fish\n\nC", PETS, "C"),
        # reasons take nothing back
        ("B. A is incorrect because it is a cat.", PETS, "B"),
        ("B. (A) is incorrect.", PETS, "B"),
        ("B. dog\nExplanation: (A) cat does not match.", PETS, "B"),
        ("A. The man is not riding", {"A": "The man is not riding", "B": "It is wrong"}, "A"),
        ("The answer is B dog", PETS, "B"),
        ("Answer: B - dog", PETS, "B"),
        ("A. The cat is not a dog.", PETS, "A"),
        ("A. No.", {"A": "No", "B": "Yes"}, "A"),
    ],
)
def test_a_label_is_read_only_where_it_is_the_answer(reply, options, expected):
    assert read_choice(reply, options) == expected


def test_an_option_text_that_two_options_share_chooses_neither():
    assert read_choice("star", {"A": "star", "B": "star"}) is None


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("yes", "yes"),
        ("No.", "no"),
        ("**Yes**", "yes"),
        ("Yes, there is a cat.", "yes"),
        ("No there isn't", "no"),
        ("Yes it is", "yes"),
        ("no - it is a dog", "no"),
        ("Yes, there is no cat but a dog.", "yes"),
        ("The answer is yes.", "yes"),
        ("Let me look. Final answer: No", "no"),
        ("<think>yes? no</think> No", "no"),
        ("Yes. No.", None),
        ("yes or no", None),
        ("Yes/No", None),
        ("No, wait, yes.", None),
        ("Yes, but no.", None),
        ("Yes, but there is no dog.", "yes"),
        ("The answer is yes. No, the answer is no", None),
        ("Let me answer the question. The answer is yes.", "yes"),
        ("No, I cannot see the image.", None),
        ("No, it is not possible to tell", None),
        ("No, I cannot answer the question.", None),
        ("I cannot be sure, but the answer is no.", "no"),
        ("Yes. The answer is no.", None),
        ("There is no cat.", None),
        ("No cats are visible.", None),
        ("Nothing", None),
        ("Yesterday", None),
        ("none", None),
        ("", None),
        ("I don't know.", None),
    ],
)
def test_yes_no(reply, expected):
    assert read_yes_no(reply) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("3", 3),
        ("three", 3),
        ("There are three stars.", 3),
        ("There are 3 (three) stars", 3),
        ("There is one.", 1),
        ("One", 1),
        ("twenty-one", 21),
        ("ninety nine", 99),
        ("1,204", 1204),
        ("-5", -5),
        ("−5", -5),
        ("12%", 12),
        ("$3.50", 3.5),
        (".5", 0.5),
        ("3.5 million", 3_500_000),
        ("two hundred", 200),
        ("2 red and 3 blue, so the answer is 5.", 5),
        ("2 + 3\n#### 5", 5),
        ("0", 0),
        ("3.", 3),
        ("2 or 3", None),
        ("2-3", None),
        ("3/4", None),
        ("between two and four", None),
        ("at least 3", None),
        ("more than three", None),
        ("more than just 3", None),
        ("less than or equal to 3", None),
        ("greater than 3", None),
        ("> 3", None),
        ("<= 3", None),
        ("≥3", None),
        ("The total is >3", None),
        ("Total:<br/>3", 3),
        ("maximum 3", None),
        ("a minimum of 3", None),
        ("There aren't 3", None),
        ("There aren't exactly 3", None),
        ("It cannot be 3", None),
        ("3 or more", None),
        ("3 cars or more", None),
        ("12% or less", None),
        ("3 at least", None),
        ("3+", None),
        ("3 million+", None),
        ("two thirds", None),
        ("two and a half", None),
        ("3 dozen", 36),
        ("The maximum is 3.", 3),
        ("=> 3", 3),
        ("<b>3</b>", 3),
        ("3 cars and above the road a plane", 3),
        ("about 3", 3),
        ("the red one", None),
        ("one of them is red", None),
        ("the 3rd", None),
        ("A4", None),
        ("1.2.3", None),
        ("none", None),
        ("some", None),
        ("", None),
        ("I can't tell whether there are 3.", None),
        ("final answer: 3. final answer: 4", None),
    ],
)
def test_numbers(reply, expected):
    assert read_number(reply) == expected


COLOURS = ("red", "blue", "light blue", "green")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("red", "red"),
        ("Red.", "red"),
        ("The star is red.", "red"),
        ("It is light blue", "light blue"),
        ("I can see that it is red", "red"),
        ("red, definitely red", "red"),
        ("The answer is red, and the circle is blue.", None),
        ("Answer: red\nThe circle is blue.", "red"),
        ("red and blue", None),
        ("red or green", None),
        ("not red", None),
        ("It isn't red", None),
        ("there is no red star", None),
        ("reddish", None),
        ("coloured", None),
        ("", None),
        ("I don't know, red", None),
        ("maybe red", None),
    ],
)
def test_words(reply, expected):
    assert read_word(reply, COLOURS) == expected


def test_words_that_stand_for_an_answer():
    meanings = {"grey": "grey", "gray": "grey", "not visible": "hidden"}
    assert read_word("gray", meanings) == "grey"
    assert read_word("It is gray, or rather grey", {**meanings}) is None
    assert read_word("not visible", meanings) == "hidden"
    assert read_word("anything", ()) is None


@pytest.mark.parametrize(
    ("reply", "refused"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("As an AI, I have no eyes.", True),
        ("I cannot see the image.", True),
        ("I don’t know.", True),
        ("It cannot be determined from the picture.", True),
        ("No image was provided.", True),
        ("It is impossible to tell.", True),
        ("There is no red star.", False),
        ("No", False),
        ("red", False),
        ("", False),
        ("The star cannot move.", False),
        ("I cannot see any dogs.", False),
        ("I am unable to view the attached picture.", True),
    ],
)
def test_refusals(reply, refused):
    assert is_refusal(reply) is refused


def test_the_verdict_tells_wrong_from_unparsed_and_refused():
    assert verdict("A", "A", lambda choice: choice == "A", picked="A").outcome == "correct"
    assert verdict("B", "B", False).outcome == "wrong"
    assert verdict("hm", None, True).outcome == "unparsed"
    assert verdict("I cannot see it", None, True).outcome == "refused"
    assert verdict("A", "A", True, picked="A").details == {"picked": "A"}


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80))
def test_no_reply_breaks_a_reader(text):
    assert read_choice(text, STARS) in {None, *STARS}
    assert read_yes_no(text) in {None, "yes", "no"}
    assert read_number(text) is None or isinstance(read_number(text), float)
    assert read_word(text, COLOURS) in {None, *COLOURS}
    is_refusal(text)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="fghjkmopqu ,.!?", max_size=60))
def test_nothing_is_read_where_nothing_was_said(text):
    assert read_choice(text, STARS) is None
    assert read_yes_no(text) is None
    assert read_word(text, COLOURS) is None


@settings(max_examples=100, deadline=None)
@given(st.sampled_from("ABCD"), st.sampled_from("ABCD"), st.sampled_from((" or ", " and ", "/", ", ", " & ")))
def test_two_labels_are_an_answer_only_where_they_are_the_same(first, second, joint):
    assert read_choice(f"{first}{joint}{second}", STARS) is None
    assert read_choice(f"The answer is {first}. Final answer: {second}", STARS) == second


@settings(max_examples=100, deadline=None)
@given(st.integers(-9999, 9999), st.sampled_from(("{}", "{}.", "There are {}.", "answer: {}", "({})")))
def test_numbers_come_back(value, form):
    assert read_number(form.format(value)) == value
    assert read_number(form.format(f"{value:,}")) == value


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 99))
def test_number_words_come_back(value):
    words = [w for w, v in WORDS.items() if v == value] or [
        f"{next(w for w, v in WORDS.items() if v == value - value % 10)}-{UNITS[value % 10]}"
    ]
    assert read_number(words[0]) == value


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Two words", "Two words"),
        ("**1/8/93**", "1/8/93"),
        ("It reads 7. Final answer: 8.", "8"),
        ("\\boxed{a} \\boxed{b}", None),
        ("<think>hm", None),
        ("", None),
        ("I cannot read the picture.", None),
        ("I'm sorry, it is blurred. Final answer: 8", "8"),
        ("Final answer: I cannot tell", None),
        ("It is blurred. The answer is 8.", "8"),
        ("Answer: Two words", "Two words"),
        ("The answer is A. The answer is B.", None),
        ("question and answer form", "question and answer form"),
    ],
)
def test_short_answers(reply, expected):
    assert parsing.read_short(reply) == expected


@pytest.mark.parametrize("reply", ["1 " * 8000, "A. " + ", actually so but " * 3000])
def test_long_replies_are_read_in_a_moment(reply):
    start = time.process_time()
    read_number(reply), read_choice(reply, PETS)
    assert time.process_time() - start < 5  # 14 and 19 seconds where the time is quadratic


@pytest.mark.parametrize(
    ("reply", "choices", "expected"),
    [
        ("Yes, it is", ("no", "yes"), "yes"),
        ("There are three.", ("1", "2", "3"), "3"),
        ("The answer is A because a dog is near I.", ("A", "B", "I"), "A"),
        ("It is red", ("red", "blue"), "red"),
        ("Two words", (), "Two words"),
    ],
)
def test_answers_are_read_by_the_kind_of_their_choices(reply, choices, expected):
    assert parsing.read_answer(reply, choices) == expected
