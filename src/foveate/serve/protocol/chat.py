"""/v1/chat/completions: messages with pictures, tools, schemas; replies whole and in chunks.

Owns the shapes of OpenAI's chat API as far as this server speaks it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from foveate.serve.protocol.common import ClassicSamplingFields, Loose, Off, Strict, Usage


class TextPart(Strict):
    """Words."""

    type: Literal["text"]
    text: str


class ImageUrl(Strict):
    """Where a picture is, and how closely to look: low stands for a visual budget of 25%, high for full."""

    url: Annotated[str, Field(min_length=1)] = Field(
        description="A data: URI, an address that starts with https:, or the id of an uploaded file."
    )
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Strict):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageUrl


class VideoUrl(Strict):
    """Where a video is, and which of its frames are looked at: in order, at even distances in time."""

    url: Annotated[str, Field(min_length=1)] = Field(
        description="A data: URI or an address that starts with https:."
    )
    frames_per_second: Annotated[float, Field(gt=0, le=60)] | None = Field(
        default=None, description="Frames a second; 2 where it is not given."
    )
    max_frames: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Where the rate gives more, this many spread over the whole video; 8 by default.",
    )


class VideoPart(Strict):
    """A video; a model that reads no videos looks at its frames as pictures in order."""

    type: Literal["video_url"]
    video_url: VideoUrl


class FileReference(Strict):
    """An uploaded picture."""

    file_id: Annotated[str, Field(min_length=1)]


class FilePart(Strict):
    """A picture that was uploaded to /v1/files."""

    type: Literal["file"]
    file: FileReference


Text = str | Annotated[list[TextPart], Field(min_length=1)]
Part = Annotated[TextPart | ImagePart | VideoPart | FilePart, Field(discriminator="type")]


class SystemMessage(Strict):
    """What the model is to be; developer is taken as system, for which chat templates have a place."""

    role: Literal["system", "developer"]
    content: Text


class UserMessage(Strict):
    """What is asked, with pictures."""

    role: Literal["user"]
    content: str | Annotated[list[Part], Field(min_length=1)]


class CalledFunction(Strict):
    """Arguments are JSON as text."""

    name: str
    arguments: str


class ToolCall(Strict):
    """A call that the assistant made."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(Strict):
    """What the model said before."""

    role: Literal["assistant"]
    content: Text | None = None
    tool_calls: list[ToolCall] | None = None
    refusal: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None


class ToolMessage(Strict):
    """What a called tool gave back."""

    role: Literal["tool"]
    content: Text
    tool_call_id: str


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Function(Strict):
    """What a tool does; `parameters` is the JSON Schema of its arguments."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = Field(None, description="Arguments always meet the schema.")


class Tool(Strict):
    """Something the model may ask to be done."""

    type: Literal["function"]
    function: Function


class FunctionName(Strict):
    """Which."""

    name: str


class ToolChoice(Strict):
    """This tool and no other."""

    type: Literal["function"]
    function: FunctionName


class TextFormat(Strict):
    """Free text."""

    type: Literal["text"]


class JsonFormat(Strict):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchema(Strict):
    """The schema; always held to, strict or not."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class JsonSchemaFormat(Strict):
    """JSON that meets a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonFormat | JsonSchemaFormat, Field(discriminator="type")]


class ChatRequest(ClassicSamplingFields):
    """A conversation and how to go on with it."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = Field(None, description="An answer has one call at most, either way.")
    response_format: ResponseFormat | None = None
    modalities: list[Literal["text"]] | None = None
    store: Off | None = None
    service_tier: Literal["auto", "default"] | None = None


class TopLogprob(Loose):
    """A token that could have been chosen."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """The chosen token and the likeliest."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(Loose):
    """Of every token of an answer."""

    content: list[TokenLogprob] | None
    refusal: None = None


class ReplyMessage(Loose):
    """One answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[dict[str, Any]] | None = None


class ChatChoice(Loose):
    """One of the n answers; `finish_reason` "length" also where the context is full."""

    index: int
    message: ReplyMessage
    logprobs: ChoiceLogprobs | None = None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatReply(Loose):
    """The whole reply."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str | None = None
    foveate_trace: dict[str, Any] | None = None
