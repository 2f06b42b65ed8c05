"""Models, health, versions, tokens: what a client asks about the server itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from foveate.serve.protocol.chat import Message
from foveate.serve.protocol.common import Body, Loose


class ModelCard(Loose):
    """One model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "foveate"
    max_model_len: int
    accepts_images: bool
    visual_budget: str = Field(description="That of requests which give none.")
    reducer: str
    system_fingerprint: str | None = Field(
        None, description="Of weights, code and defaults: while it stays, the same request is answered alike."
    )


class ModelList(Loose):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Status(Loose):
    """ok, or why not."""

    status: str
    reason: str | None = None


class Version(Loose):
    """Which program answers."""

    version: str
    name: Literal["foveate"] = "foveate"


class TokenizeRequest(Body):
    """Text, or messages as a chat would read them."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = Field(None, min_length=1)
    add_special_tokens: bool | None = Field(None, description="For a prompt; true where not given.")
    return_token_strs: bool | None = None


class TokenizeReply(Loose):
    """The ids, how many they are, and how many there may be."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None
    image_tokens: int = 0


class DetokenizeRequest(Body):
    """Ids of tokens."""

    model: str | None = None
    tokens: list[int] = Field(max_length=1_000_000)


class DetokenizeReply(Loose):
    """What they spell."""

    prompt: str
