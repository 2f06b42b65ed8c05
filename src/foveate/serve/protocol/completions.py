"""/v1/completions and /v1/embeddings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from foveate.serve.protocol.chat import ImagePart, TextPart
from foveate.serve.protocol.common import Body, ClassicSamplingFields, Loose, Off, Usage

TokenId = Annotated[int, Field(ge=0)]
Words = Annotated[str, Field(min_length=1)]


class CompletionRequest(ClassicSamplingFields):
    """Text without a chat template, and how to go on with it."""

    prompt: Words | Annotated[list[TokenId], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(None, description="16 where not given.")
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: Off | None = None
    best_of: Literal[1] | None = None
    suffix: None = None


class CompletionLogprobs(Loose):
    """Of every token of an answer, in lists of equal length."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Loose):
    """One of the n answers."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None


class CompletionReply(Loose):
    """The whole reply."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    system_fingerprint: str | None = None


EmbeddingItem = Words | ImagePart | TextPart


class EmbeddingRequest(Body):
    """What to embed: a text, tokens, a picture, or a list of texts and pictures."""

    model: str | None = None
    input: (
        Words
        | ImagePart
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[EmbeddingItem], Field(min_length=1, max_length=64)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: None = None
    user: str | None = None


class Embedding(Loose):
    """One vector of length 1."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingReply(Loose):
    """All of them, in order."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: dict[str, Any]
