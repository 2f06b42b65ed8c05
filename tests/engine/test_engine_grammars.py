"""Grammars without a model: random tokens held to a constraint, over tokenizers of every kind."""

from __future__ import annotations

import json
import re
from typing import Any

import fake_tokenizers
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_writer import END, KINDS, PADDING, WITH_ALL_BYTES, follow, setting, write

from foveate.engine.constraints import ConstraintCompiler
from foveate.engine.request import OutputConstraint, RequestError
from foveate.engine.vocabulary import read_vocabulary

# -- vocabularies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WITH_ALL_BYTES)
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=12))
def test_spellings_of_a_text_add_up_to_it(kind: str, text: str) -> None:
    tokenizer, size, _ = setting(kind)
    vocabulary = read_vocabulary(tokenizer, size)
    ids = tokenizer.encode("x" + text, add_special_tokens=False)
    spelled = b"".join(vocabulary.spellings[token] for token in ids)
    if not any(name in text for name in tokenizer.all_special_tokens):
        assert spelled.decode().removeprefix(" " if vocabulary.drops_first_space else "") == (
            "x" + text.replace("\u2581", " ") if kind == "byte fallback" else "x" + text
        )


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_and_padding_spell_nothing(kind: str) -> None:
    tokenizer, size, _ = setting(kind)
    vocabulary = read_vocabulary(tokenizer, size)
    assert len(vocabulary.spellings) == size and vocabulary.spellings[-PADDING:] == (b"",) * PADDING
    assert all(vocabulary.spellings[token] == b"" for token in tokenizer.all_special_ids)
    assert vocabulary.drops_first_space == (kind != "byte level")
    smaller = read_vocabulary(tokenizer, 40)  # a head with fewer rows than the tokenizer has tokens
    assert smaller.spellings == vocabulary.spellings[:40]


@pytest.mark.parametrize(
    ("tokenizer", "why"),
    [(object(), "not a fast one"), (fake_tokenizers.word_pieces(), "its decoder is WordPiece")],
)
def test_a_tokenizer_whose_bytes_are_not_known_is_refused(tokenizer: Any, why: str) -> None:
    with pytest.raises(RequestError, match=why):
        ConstraintCompiler(tokenizer, 10).compile(OutputConstraint(regex="a"))


# -- regular expressions and choices -----------------------------------------------------------------------

LITERALS = st.sampled_from(
    ["a", "b", "c", " ", "/", r"\/", r"\\", '"', "'", "é", "日", "\n", "#", "-", "&", "~", r"\."]
)
CLASSES = st.sampled_from(["[ab/]", "[^a]", r"\d", "[a-cé]", "(?:no|yes)"])


def _combine(part: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(part, part).map("".join),
        st.tuples(part, part).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(part, st.sampled_from(["*", "+", "?", "{1,3}", "{2}"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    )


REGEXES = st.recursive(st.one_of(LITERALS, CLASSES), _combine, max_leaves=6)


@pytest.mark.parametrize("kind", WITH_ALL_BYTES)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), pattern=REGEXES, seed=st.integers(0, 5))
def test_a_regex_holds_and_keeps_nothing_out(kind: str, data: st.DataObject, pattern: str, seed: int) -> None:
    constraint = OutputConstraint(regex=pattern)
    text, reason = write(kind, constraint, seed, max_tokens=60)
    if reason is not None:
        assert reason == "stop" and re.fullmatch(pattern, text, re.ASCII), (pattern, text)
    wanted = data.draw(st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True).filter(_can_be_written))
    tokenizer, size, _ = setting(kind)
    spellings = read_vocabulary(tokenizer, size).spellings
    if kind == "byte fallback":  # an answer that begins with a space is written with one more
        wanted = f" {wanted}"
    assert follow(kind, constraint, [spellings.index(bytes([byte])) for byte in wanted.encode()])


def _can_be_written(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


@pytest.mark.parametrize("kind", KINDS)
def test_every_choice_comes_up_and_nothing_else(kind: str) -> None:
    choice = ("yes", "no", "the red")
    constraint = OutputConstraint(choice=choice)
    answers = [write(kind, constraint, seed) for seed in range(60)]
    assert {text for text, _ in answers} == set(choice)
    assert {reason for _, reason in answers} == {"stop"}


def test_a_choice_is_taken_literally() -> None:
    for text in (
        "a|b",
        "(",
        "[x]",
        "\\",
        "a/b",
        "/",
        '"',
        "a\nb",
        "^$",
        "\0",
        "é日本",
        "#",
        "%json {}",
        "{2}",
    ):
        for kind in WITH_ALL_BYTES:
            assert write(kind, OutputConstraint(choice=(text,))) == (text, "stop")


def test_a_first_space_that_decoding_drops_is_allowed_for() -> None:
    """Llama's tokens for words begin with a space, so an answer may; the text a caller sees is what was asked."""
    tokenizer, _, compiler = setting("byte fallback")
    spaced, plain = tokenizer.convert_tokens_to_ids(["\u2581yes", "yes"])
    allowed = compiler.prepare(OutputConstraint(choice=("yes",)), (END,))().allowed()
    assert allowed[spaced] and allowed[plain]
    assert write("byte fallback", OutputConstraint(regex=" [ab]"))[0] in (" a", " b")
    begins = {write("byte fallback", OutputConstraint(json_object=True), seed)[0][:1] for seed in range(20)}
    assert begins == {"{"}


# -- schemas -----------------------------------------------------------------------------------------------


def _objects(part: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.dictionaries(st.sampled_from(["a", "name", "é", 'q"']), part, max_size=3)
    return st.builds(
        lambda properties, keep: {
            "type": "object",
            "properties": properties,
            "required": [name for name, kept in zip(properties, keep, strict=False) if kept],
            "additionalProperties": False,
        },
        fields,
        st.lists(st.booleans(), min_size=3, max_size=3),
    )


SCALARS = st.one_of(
    st.tuples(st.integers(-50, 50), st.integers(0, 60)).map(
        lambda pair: {"type": "integer", "minimum": pair[0], "maximum": pair[0] + pair[1]}
    ),
    st.integers(0, 4).map(lambda length: {"type": "string", "maxLength": length}),
    st.just({"type": "string", "pattern": "^[ab]{1,3}$"}),
    st.sampled_from(
        [{"type": "boolean"}, {"type": "null"}, {"const": 'a"\\'}, {"enum": [1, "x", None, [True]]}]
    ),
)
SCHEMAS = st.recursive(
    SCALARS,
    lambda part: st.one_of(
        st.tuples(part, st.integers(0, 2)).map(
            lambda pair: {"type": "array", "items": pair[0], "minItems": pair[1], "maxItems": 3}
        ),
        st.lists(part, min_size=1, max_size=2).map(lambda parts: {"anyOf": parts}),
        _objects(part),
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("kind", WITH_ALL_BYTES)
@settings(max_examples=80, deadline=None)
@given(schema=SCHEMAS, seed=st.integers(0, 5))
def test_a_model_that_knows_nothing_meets_any_schema(kind: str, schema: dict[str, Any], seed: int) -> None:
    text, reason = write(kind, OutputConstraint(json_schema=schema), seed, max_tokens=1000)
    assert reason == "stop"
    jsonschema.validate(json.loads(text), schema)


def test_what_is_optional_or_open_stays_so() -> None:
    for text in ("{}", '{"a": 1}', '{"a":1,"other":[{}]}', '{"b":"日本"}'):
        spellings = read_vocabulary(*setting("byte level")[:2]).spellings
        ids = [spellings.index(bytes([byte])) for byte in text.encode()]
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
        assert follow("byte level", OutputConstraint(json_schema=schema), ids)
        assert follow("byte level", OutputConstraint(json_object=True), ids)
    assert not follow("byte level", OutputConstraint(json_object=True), ids[:-1])


def test_recursion_that_can_end_is_served() -> None:
    tree = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                "required": ["left"],
                "additionalProperties": False,
            }
        },
    }
    answers = [write("byte level", OutputConstraint(json_schema=tree), seed) for seed in range(8)]
    ended = [json.loads(text) for text, reason in answers if reason == "stop"]
    assert ended and all(isinstance(answer, dict) and list(answer) == ["left"] for answer in ended)


def test_letters_that_a_vocabulary_lacks() -> None:
    """Only a vocabulary without bytes can lead into such an end; the answer says so."""
    assert write("unigram", OutputConstraint(regex="a[ψω]")) == ("a", "error")
