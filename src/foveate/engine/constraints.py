"""Constrained output: from a schema, a regular expression or a choice to the ids that may come next.

Owns the compiled grammars and the state of each constrained answer. The grammar engine is llguidance; nothing else
knows it. Grammars are over bytes, so a token may be any part of a character. Knows no scheduling and no sampling.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, regex_to_lark

from foveate.engine.request import OutputConstraint, RequestError
from foveate.engine.sampling import TokenConstraint
from foveate.engine.schema_checks import has_finite_value
from foveate.engine.vocabulary import Vocabulary, read_vocabulary

_log = logging.getLogger(__name__)

# JSON on one line, with at most one space after a comma or a colon: where a grammar lets white space go on, a small
# model may never stop writing it. Nothing is skipped over: what cannot be enforced is refused.
JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?", "lenient": False}
# Every spelling of what may come is allowed, not only the tokenizer's own: that one depends on what comes before, and
# the model knows it.
OPTIONS = '%llguidance {"no_forcing": true}'
REASON_LENGTH = 300  # characters of a grammar error that a caller is shown


class GrammarConstraint:
    """Where one answer is in its grammar.

    Args:
        matcher: at the start of the grammar; this answer's own.
        size: rows of the model's head.
        stop_ids: end the answer. They are never text, and allowed exactly where the grammar is complete.
    """

    def __init__(self, matcher: LLMatcher, size: int, stop_ids: Collection[int]) -> None:
        self._matcher, self._size, self._stop_ids = matcher, size, frozenset(stop_ids)
        self._stop_rows = [token for token in self._stop_ids if 0 <= token < size]
        self._read()

    @property
    def finish_reason(self) -> str | None:
        """ "stop" when the output is complete and nothing may follow, "error" when it can be neither completed nor
        continued with this vocabulary, else None."""
        return self._finish_reason

    def allowed(self) -> torch.Tensor:
        """[V] booleans; at least one is True while `finish_reason` is None."""
        return self._allowed

    def advance(self, token_id: int) -> None:
        """This id was chosen."""
        if token_id in self._stop_ids:
            return
        self._matcher.consume_token(token_id)
        self._read()
        if self._finish_reason == "error":
            why = self._matcher.get_error() or "no token begins what must come next"
            _log.warning("a constrained answer cannot go on: %s", _reason(why))

    def _read(self) -> None:
        """The state after what was chosen so far."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        # Cut at V: the bit behind it is the grammar's own end token, which the model does not have.
        allowed = torch.from_numpy(np.unpackbits(bits, count=self._size, bitorder="little")).view(torch.bool)
        allowed[self._stop_rows] = False
        complete = self._matcher.is_accepting()
        self._finish_reason = None
        if not allowed.any():
            self._finish_reason = "stop" if complete else "error"
        allowed[self._stop_rows] = complete
        self._allowed = allowed


class ConstraintCompiler:
    """Compiles constraints for one tokenizer, and keeps the grammars used last.

    `compile` may be called from any thread; the first call reads the vocabulary (about a second for a large one).

    Args:
        size: rows of the model's head.
        capacity: compiled grammars kept.
    """

    def __init__(self, tokenizer: Any, size: int, *, capacity: int = 64) -> None:
        self._tokenizer, self._size, self._capacity = tokenizer, size, capacity
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()
        self._trie: LLTokenizer | None = None
        self._drops_first_space = False

    def prepare(
        self, constraint: OutputConstraint, stop_ids: Collection[int]
    ) -> Callable[[], TokenConstraint]:
        """What makes a constraint for each answer of a request that ends at `stop_ids`.

        Raises:
            RequestError: nothing, or only the empty answer, satisfies the constraint; and as for `compile`.
        """
        matcher = self.compile(constraint)
        first = GrammarConstraint(matcher.deep_copy(), self._size, stop_ids)
        if first.finish_reason is not None:
            empty = first.finish_reason == "stop"
            raise _refusal(
                constraint,
                "only the empty answer satisfies it"
                if empty
                else "nothing that this model can write satisfies it",
            )
        return lambda: GrammarConstraint(matcher.deep_copy(), self._size, stop_ids)

    def compile(self, constraint: OutputConstraint) -> LLMatcher:
        """The matcher at the start of a constraint's grammar, to be copied and never advanced.

        Raises:
            RequestError: a syntax error, a contradiction, or something the grammar library cannot enforce.
        """
        with self._lock:
            if self._trie is None:
                vocabulary = read_vocabulary(self._tokenizer, self._size)
                self._drops_first_space = vocabulary.drops_first_space
                self._trie = LLTokenizer(_TrieSource(vocabulary))  # type: ignore[arg-type]
            trie = self._trie
        grammar = _grammar(constraint, self._drops_first_space)
        with self._lock:
            if grammar in self._compiled:
                self._compiled.move_to_end(grammar)
                return self._compiled[grammar]
        # Not under the lock: a large grammar must not hold up requests whose own is here already.
        matcher = LLMatcher(trie, grammar, log_level=0, limits=LLParserLimits(verbose_errors=False))
        if matcher.is_error():
            raise _refusal(constraint, _reason(matcher.get_error()))
        if constraint.json_schema is not None and not has_finite_value(constraint.json_schema):
            raise _refusal(constraint, "it requires itself without end, so no JSON text satisfies it")
        with self._lock:
            self._compiled[grammar] = matcher
            while len(self._compiled) > self._capacity:
                self._compiled.popitem(last=False)
        return matcher


class _TrieSource:
    """A vocabulary in the shape that llguidance reads; the id behind the last is the grammar's own end token, so
    that a model may have any number of end tokens or none."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.tokens = [*vocabulary.spellings, b"\xff<end>"]
        self.eos_token_id = len(vocabulary.spellings)
        self.special_token_ids = [self.eos_token_id]

    def __call__(self, text: str | bytes) -> list[int]:
        raise AssertionError("the grammars force no tokens, so none are asked for")


def _grammar(constraint: OutputConstraint, drops_first_space: bool) -> str:
    """A constraint as a grammar in llguidance's Lark dialect.

    Where decoding drops the answer's first space, one may come before what is asked for, as such models like
    it; an answer that is itself to begin with a space then needs one more.
    """
    if constraint.regex is not None or constraint.choice is not None:
        pattern = constraint.regex or ""
        if constraint.choice is not None:
            # By code point: no character of a choice can mean anything to the pattern.
            options = ("".join(f"\\x{{{ord(letter):x}}}" for letter in text) for text in constraint.choice)
            pattern = "|".join(options)
        body = f"BODY: /{regex_to_lark(pattern or '(?:)', use_ascii='dw')}/"
        answer = '" " BODY | BODY & ~/(?s: .*)/' if drops_first_space else "BODY"
        return f"{OPTIONS}\nstart: ANSWER\nANSWER: {answer}\n{body}"
    schema = {"type": "object"} if constraint.json_schema is None else constraint.json_schema
    body = f"body: %json {json.dumps({**schema, 'x-guidance': JSON_STYLE})}"
    start = "body"
    if constraint.between is not None:
        opening, closing = (json.dumps(mark, ensure_ascii=False) for mark in constraint.between)
        start = f'{opening} "\\n"? body "\\n"? {closing}'
    if drops_first_space:
        start = f"SPACE? {start}"
        body += '\nSPACE: " "'
    if constraint.or_text and constraint.between is not None:
        start = f"TEXT | {start}"
        first = " ?" if drops_first_space else ""
        pattern = "".join(f"\\x{{{ord(letter):x}}}" for letter in constraint.between[0])
        body += f"\nTEXT: /(?s:.*)/ & ~/(?s:{first}{pattern}.*)/"
    return f"{OPTIONS}\nstart: {start}\n{body}"


def _reason(error: str) -> str:
    """The telling part of a compile error, which quotes the grammar around it."""
    lines = [line.strip() for line in error.splitlines()]
    told = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])
    told = re.sub(r"^at \d+\(\d+\): ", "", told)
    told = re.sub(r'^(failed to compile JSON schema|invalid regex ".*" \(in regex\)): ', "", told)
    return told.split(". Enable ")[0][:REASON_LENGTH]  # names an option that callers do not have


def _refusal(constraint: OutputConstraint, why: str) -> RequestError:
    return RequestError(
        f"The output cannot be held to {constraint.describe()}",
        why=why,
        fix="Correct the constraint, or send the request without it.",
    )
