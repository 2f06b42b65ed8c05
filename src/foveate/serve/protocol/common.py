"""What the requests of several endpoints share: strict fields, usage, log-probabilities, sampling.

Owns the fields that are refused and why. A field that is neither known nor listed here is refused too.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

# Fields of OpenAI's API, and of other servers, that mean something this server does not do.
REFUSED_FIELDS: dict[str, str] = {
    "audio": "no model here speaks or listens",
    "best_of": "answers are not ranked",
    "echo": "the prompt is not repeated",
    "function_call": "it was replaced by tool_choice",
    "functions": "it was replaced by tools",
    "guided_json": "schemas are given as response_format",
    "input_audio": "no model here listens",
    "metadata": "replies are not stored",
    "name": "chat templates have no place for the names of participants",
    "prediction": "there is no speculative decoding from a predicted output",
    "previous_response_id": "replies are not stored",
    "conversation": "conversations are not stored",
    "prompt_cache_key": "prompts that begin alike share a cache without being told",
    "reasoning": "no model here has a reasoning mode that can be set",
    "reasoning_effort": "no model here has a reasoning mode that can be set",
    "suffix": "no model here fills in the middle",
    "verbosity": "no model here has one",
    "web_search_options": "no model here searches the web",
}

DEEPEST = 128  # levels of JSON; schemas that people write have a dozen


class Strict(BaseModel):
    """Unknown fields and values of another type are errors; null means not given."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Body(Strict):
    """A whole request."""

    @model_validator(mode="before")
    @classmethod
    def _is_plain(cls, data: Any) -> Any:
        """Refuses what JSON can spell and nothing behind it could take: half a character (a lone surrogate), and
        nesting so deep that reading it again would overflow the stack."""
        waiting = [(data, 0)]
        while waiting:
            one, depth = waiting.pop()
            if isinstance(one, str):
                if not one.isascii() and any("\ud800" <= letter <= "\udfff" for letter in one):
                    raise ValueError("a string has half a surrogate pair, which is no character")
            elif isinstance(one, dict | list):
                if depth == DEEPEST:
                    raise ValueError(f"it is nested more than {DEEPEST} levels deep")
                inside = [*one.keys(), *one.values()] if isinstance(one, dict) else one
                waiting += [(value, depth + 1) for value in inside]
        return data


class Loose(BaseModel):
    """A reply; made by us, so not validated twice."""

    model_config = ConfigDict(extra="allow")


def _is_off(value: bool) -> bool:
    if value:
        raise ValueError("it can only be false")
    return value


# Not Literal[False], which takes 0: another type, that the schema of a strict field must not let through.
Off = Annotated[bool, AfterValidator(_is_off), WithJsonSchema({"type": "boolean", "const": False})]


class StreamOptions(Strict):
    """What a stream carries besides the answer."""

    include_usage: bool | None = None
    include_obfuscation: Off | None = None


Stop = Annotated[str, Field(min_length=1, max_length=1000)]


class SamplingFields(Body):
    """How tokens are chosen; names of OpenAI's API, then those that other servers have added."""

    model: str | None = Field(None, description="A name from /v1/models; the only one where none is given.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = Field(
        None, description="Requests of different users never share cached prefixes."
    )
    top_k: Annotated[int, Field(ge=-1)] | None = Field(None, description="0 and -1: all.")
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[int], Field(max_length=64)] | None = None
    include_stop_str_in_output: bool | None = None
    priority: Annotated[int, Field(ge=-100, le=100)] | None = Field(
        None, description="The higher is served first."
    )
    visual_budget: str | Annotated[int, Field(ge=1)] | None = Field(
        None, description="Visual tokens kept of each picture: full, auto, a number or a share such as 25%."
    )
    speculate: bool | None = Field(
        None, description="false: token by token, where the server guesses ahead. The answer is the same."
    )
    reducer: str | None = Field(None, description="How they are chosen: a name from /foveate/reducers.")
    foveate_trace: bool | None = Field(
        None, description="Report which visual tokens were kept, and how long each stage took."
    )


class ClassicSamplingFields(SamplingFields):
    """Those that /v1/responses does not have."""

    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: (
        Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)] | None
    ) = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class PromptTokensDetails(Loose):
    """Of the prompt's tokens, those that were found in the prefix cache."""

    cached_tokens: int = 0


class CompletionTokensDetails(Loose):
    """Of the tokens that were guessed ahead, those that were right and those that were not; 0 without speculation."""

    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(Loose):
    """Tokens of one request.

    `image_tokens` counts visual tokens before any was dropped, `image_tokens_kept` those that the language model saw;
    `prompt_tokens` has the kept ones.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails = PromptTokensDetails()
    completion_tokens_details: CompletionTokensDetails = CompletionTokensDetails()
    image_tokens: int = 0
    image_tokens_kept: int = 0


@functools.cache
def known_fields() -> frozenset[str]:
    """Every field that some request has, for the nearest name to an unknown one."""
    return frozenset(name for model in _descendants(Strict) for name in model.model_fields)


def _descendants(model: type[BaseModel]) -> list[type[Any]]:
    return [model, *(kind for child in model.__subclasses__() for kind in _descendants(child))]
