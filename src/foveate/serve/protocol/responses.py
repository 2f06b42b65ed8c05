"""/v1/responses, the basic part: text and pictures in, text out, nothing stored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from foveate.serve.protocol.common import Loose, Off, SamplingFields, Strict


class InputText(Strict):
    """Words."""

    type: Literal["input_text"]
    text: str


class InputImage(Strict):
    """A picture: a data: URI or address, or the id of an uploaded file."""

    type: Literal["input_image"]
    image_url: Annotated[str, Field(min_length=1)] | None = None
    file_id: Annotated[str, Field(min_length=1)] | None = None
    detail: Literal["auto", "low", "high"] | None = None


class OutputText(Strict):
    """What the model said before."""

    type: Literal["output_text"]
    text: str
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    logprobs: Annotated[list[Any], Field(max_length=0)] | None = None


InputPart = Annotated[InputText | InputImage, Field(discriminator="type")]


class InputMessage(Strict):
    """A turn of the conversation."""

    type: Literal["message"] | None = None
    role: Literal["user", "system", "developer"]
    content: str | Annotated[list[InputPart], Field(min_length=1)]


class OutputMessage(Strict):
    """An answer of an earlier reply, sent back."""

    type: Literal["message"] | None = None
    role: Literal["assistant"]
    content: str | Annotated[list[OutputText], Field(min_length=1)]
    id: str | None = None
    status: Literal["completed", "incomplete"] | None = None
    phase: None = None


class TextForm(Strict):
    """Free text."""

    type: Literal["text"]


class ObjectForm(Strict):
    """Any JSON object."""

    type: Literal["json_object"]


class SchemaForm(Strict):
    """JSON that meets a schema; always held to, strict or not."""

    type: Literal["json_schema"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextSettings(Strict):
    """What the text must be."""

    format: Annotated[TextForm | ObjectForm | SchemaForm, Field(discriminator="type")] | None = None


Turn = Annotated[InputMessage | OutputMessage, Field(discriminator="role")]


class ResponsesRequest(SamplingFields):
    """A conversation and how to go on with it."""

    input: Annotated[str, Field(min_length=1)] | Annotated[list[Turn], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    text: TextSettings | None = None
    store: Off | None = Field(None, description="Replies are never stored.")
    background: Off | None = None
    truncation: Literal["disabled"] | None = None
    service_tier: Literal["auto", "default"] | None = None


class ResponsesReply(Loose):
    """The whole reply."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["completed", "incomplete", "in_progress"]
    model: str
    output: list[dict[str, Any]]
    usage: dict[str, Any] | None
    incomplete_details: dict[str, str] | None
