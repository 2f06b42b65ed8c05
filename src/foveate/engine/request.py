"""What a caller asks for: sampling parameters and requests, checked when they are made.

Owns the ranges of every parameter and the records handed back. Knows no model and no scheduling; what depends
on the engine's size (context, blocks, encoder cache) is refused at admission by `admission.py`.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from foveate.errors import ContextLengthError, FoveateError

if TYPE_CHECKING:
    from foveate.models.records import Prompt


class RequestError(FoveateError):
    """A request that cannot be served as asked; the engine keeps serving the others."""


class RequestTooLongError(RequestError, ContextLengthError):
    """Prompt and answer do not fit into the model's context or the engine's cache."""


@dataclass(frozen=True, kw_only=True)
class OutputConstraint:
    """What the whole answer must be; exactly one of the four.

    Attributes:
        json_schema: a JSON Schema (draft 2020-12). Properties come in the schema's order. A keyword that cannot be
            enforced is refused with the request, never ignored.
        json_object: any JSON object.
        regex: matches the whole answer (Rust's syntax: no look-around, no back-references; \\d and \\w are ASCII).
        choice: one of these strings.
        between: (opening, closing): with `json_schema`, what stands around the JSON.
        or_text: with `between`, the answer may instead be any text that does not begin with the opening.

    Raises:
        RequestError: none or several are given, or one of the wrong kind.
    """

    json_schema: Mapping[str, Any] | None = None
    json_object: bool = False
    regex: str | None = None
    choice: tuple[str, ...] | None = None
    between: tuple[str, str] | None = None
    or_text: bool = False

    def __post_init__(self) -> None:
        kinds = ("json_schema", "regex", "choice")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        given += ["json_object"] if self.json_object else []
        if len(given) != 1:
            raise RequestError(
                f"The output constraint gives {' and '.join(given) or 'nothing'}",
                why="it must give exactly one of json_schema, json_object, regex and choice",
                fix="Correct the request and send it again.",
            )
        if problem := self._problem():
            raise RequestError(
                f"{given[0]} is {reprlib.repr(getattr(self, given[0]))}",
                why=problem,
                fix="Correct the request and send it again.",
            )

    def _problem(self) -> str:
        if self.between is not None and self.json_schema is None:
            return "only JSON that meets a schema may stand between marks"
        if self.between is not None and not all(mark and _encodable(mark) for mark in self.between):
            return "the marks around it must be strings of one or more whole characters"
        if self.or_text and self.between is None:
            return "text may take its place only where marks tell the two apart"
        if self.json_schema is not None:
            if not isinstance(self.json_schema, Mapping):
                return "it must be an object"
            try:
                json.dumps(self.json_schema, allow_nan=False)
            except (TypeError, ValueError, RecursionError) as error:
                return f"it must be plain JSON: {error}"
            return ""
        if self.regex is not None:
            if not isinstance(self.regex, str) or not _encodable(self.regex):
                return "it must be a string of whole characters"
            whole = re.fullmatch(r"(?:[^\\]|\\.)*", self.regex, re.DOTALL)
            return "" if whole else "it ends in a backslash that escapes nothing"
        if self.choice is not None:
            texts = isinstance(self.choice, tuple) and all(isinstance(text, str) for text in self.choice)
            if not (texts and self.choice and all(_encodable(text) for text in self.choice)):
                return "it must be a tuple of one or more strings of whole characters"
        return ""

    def describe(self) -> str:
        """A few words for an error message."""
        if self.regex is not None:
            return f"the regex {reprlib.repr(self.regex)}"
        if self.choice is not None:
            return f"the choice {reprlib.repr(self.choice)}"
        return "any JSON object" if self.json_object else f"the JSON schema {reprlib.repr(self.json_schema)}"


def _encodable(text: str) -> bool:
    """Whether it can be written as UTF-8: half a surrogate pair cannot."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


@dataclass(frozen=True, kw_only=True)
class SamplingParameters:
    """How tokens are chosen and when to stop.

    Attributes:
        max_tokens, min_tokens: bounds on generated tokens; below `min_tokens` no stop is possible.
        temperature: 0 is greedy.
        top_k: keep the k most likely tokens; 0 keeps all (Fan et al. 2018, arXiv 1805.04833).
        top_p: keep the smallest set whose mass reaches p (Holtzman et al. 2020, arXiv 1904.09751).
        min_p: keep tokens at least this fraction as likely as the likeliest (arXiv 2407.01082).
        repetition_penalty: divides positive and multiplies negative logits of tokens in prompt or answer
            (CTRL, arXiv 1909.05858); presence and frequency penalties are subtracted for answer tokens, once
            and per occurrence.
        seed: the same seed gives the same answer whatever else runs; None lets the engine draw one.
        stop: strings that end the answer; they may span tokens, and are cut off unless `include_stop`.
        stop_token_ids: ids that end the answer beside the model's own; `ignore_end` disables the model's.
        logit_bias: added to logits by token id, before everything else.
        top_logprobs: None for no log-probabilities; 0 for the chosen token's alone; n for the n likeliest,
            under the model's own distribution (temperature 1, before penalties).
        n: answers to draw from the same prompt.
        constraint: what every answer must be. An answer that is complete and can only end does so, even below
            `min_tokens`; one that `max_tokens` or a stop string cuts off is incomplete.
        speculate: False decodes these answers token by token in an engine that speculates. They stay the same.

    Raises:
        RequestError: a value outside its range, naming value and range.
    """

    max_tokens: int = 128
    min_tokens: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    include_stop: bool = False
    stop_token_ids: tuple[int, ...] = ()
    ignore_end: bool = False
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    top_logprobs: int | None = None
    n: int = 1
    constraint: OutputConstraint | None = None
    speculate: bool = True

    def __post_init__(self) -> None:
        stops = self.stop
        checks = (
            ("max_tokens", self.max_tokens >= 1, "1 or more"),
            ("min_tokens", 0 <= self.min_tokens <= self.max_tokens, f"0 to max_tokens ({self.max_tokens})"),
            ("temperature", 0 <= self.temperature < float("inf"), "0 (greedy) or more"),
            ("top_k", self.top_k >= 0, "0 (all) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "0 to 1"),
            ("repetition_penalty", 0.01 <= self.repetition_penalty <= 100, "0.01 to 100 (1 is none)"),
            ("presence_penalty", -2 <= self.presence_penalty <= 2, "-2 to 2"),
            ("frequency_penalty", -2 <= self.frequency_penalty <= 2, "-2 to 2"),
            ("stop", not isinstance(stops, str) and all(stops), "a tuple of non-empty strings"),
            ("top_logprobs", self.top_logprobs is None or 0 <= self.top_logprobs <= 50, "0 to 50"),
            ("n", self.n >= 1, "1 or more"),
            ("logit_bias", all(-100 <= bias <= 100 for bias in self.logit_bias.values()), "-100 to 100 each"),
        )
        for name, valid, range_text in checks:
            if not valid:
                raise RequestError(
                    f"{name} is {getattr(self, name)!r}",
                    why=f"it must be {range_text}",
                    fix="Correct the request and send it again.",
                )
        if self.n > 1 and self.temperature == 0:
            raise RequestError(
                f"n is {self.n} at temperature 0",
                why="greedy decoding gives the same answer each time",
                fix="Set a temperature above 0, or n to 1.",
            )


@dataclass(frozen=True, kw_only=True)
class Request:
    """One prompt and how to answer it.

    Attributes:
        priority: the higher is served first; equal ones in order of arrival.
        tenant: requests of different tenants never share cached prefixes (but share encoded images, whose
            name reveals nothing without the picture).
        arrival: seconds on the engine's clock; `order` breaks ties.
    """

    id: str
    prompt: Prompt
    parameters: SamplingParameters
    priority: int = 0
    tenant: str = ""
    arrival: float = 0.0
    order: int = 0


@dataclass(frozen=True, kw_only=True)
class TokenLogprob:
    """Log-probability of the chosen token, and of the likeliest as (id, log-probability), best first."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class StepOutput:
    """What one step added to one answer of a request.

    Attributes:
        index: which of the n answers.
        token_ids: new tokens; empty when a request ends without one (abort).
        text: what they complete; never a broken character, never a part of a stop string.
        finish_reason: with the last output of this answer "stop", "length" (max_tokens), "context" (no room
            left), "abort" or "error" (the step that held it raised, or a constraint that no token of this
            vocabulary can go on with); else None.
        finished: whether all n answers of the request have ended.
    """

    request_id: str
    index: int
    token_ids: tuple[int, ...]
    text: str
    finish_reason: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    finished: bool = False


@dataclass(kw_only=True)
class Completion:
    """One whole answer; `token_ids` includes the token that stopped it, `text` does not."""

    index: int = 0
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def add(self, output: StepOutput) -> None:
        """Appends one step's output."""
        self.token_ids += output.token_ids
        self.text += output.text
        self.logprobs += output.logprobs
        self.finish_reason = output.finish_reason or self.finish_reason
