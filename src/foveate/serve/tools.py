"""Tools: told to the model in words, held to their schemas by a grammar, read back from the answer.

Owns the form of a call in the text: JSON between <tool_call> and </tool_call>, which Qwen's and Hermes' models were
trained on, and which any other is held to. It goes into the prompt as text, so it needs nothing of the chat template.
One answer has at most one call.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foveate.engine import OutputConstraint
from foveate.errors import nearest
from foveate.serve.errors import ApiError
from foveate.serve.protocol.chat import ChatRequest, Tool, ToolCall

OPENING, CLOSING = "<tool_call>", "</tool_call>"
ANY_ARGUMENTS: dict[str, Any] = {"type": "object"}
INSTRUCTIONS = """You can call one of these tools:
{tools}
To call one, answer with nothing but
<tool_call>
{{"name": <name of the tool>, "arguments": <object that meets its parameters>}}
</tool_call>"""


@dataclass(frozen=True, kw_only=True)
class Toolbox:
    """The tools of one request and whether one must be called.

    Attributes:
        must_call: the answer is a call; else it may be text.
    """

    tools: tuple[Tool, ...]
    must_call: bool

    @property
    def instructions(self) -> str:
        """What the model is told."""
        lines = [
            json.dumps(tool.function.model_dump(exclude_none=True), ensure_ascii=False) for tool in self.tools
        ]
        return INSTRUCTIONS.format(tools="\n".join(lines))

    @property
    def constraint(self) -> OutputConstraint:
        """What holds an answer to the tools' schemas."""
        calls = [
            {
                "type": "object",
                "properties": {
                    "name": {"const": tool.function.name},
                    "arguments": tool.function.parameters or ANY_ARGUMENTS,
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for tool in self.tools
        ]
        schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
        return OutputConstraint(
            json_schema=_lifted(schema), between=(OPENING, CLOSING), or_text=not self.must_call
        )


def _lifted(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with definitions at its root, where references of the tools' own schemas look for them."""
    found: dict[str, Any] = {}
    calls = schema.get("anyOf", [schema])
    for call in calls:
        arguments = dict(call["properties"]["arguments"])
        for name in ("$defs", "definitions"):
            for key, value in arguments.pop(name, {}).items():
                if found.setdefault(name, {}).setdefault(key, value) != value:
                    raise ApiError(
                        f"Two tools define {key!r} differently",
                        why="the definitions of all tools of a request share one place",
                        fix="Rename one of them.",
                        param="tools",
                        code="invalid_value",
                    )
        call["properties"]["arguments"] = arguments
    return {**schema, **found}


def toolbox(request: ChatRequest) -> Toolbox | None:
    """The tools that a request lets the model call; None where it may call none.

    Raises:
        ApiError: a choice without tools, of one that is not there, or two of the same name.
    """
    tools, choice = request.tools or [], request.tool_choice
    names = [tool.function.name for tool in tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ApiError(
            f"Two tools are called {twice!r}", fix="Rename one of them.", param="tools", code="invalid_value"
        )
    if not tools:
        if choice not in (None, "none"):
            raise ApiError(
                "tool_choice is given without tools",
                fix="Add tools.",
                param="tool_choice",
                code="invalid_value",
            )
        return None
    if choice == "none":
        return None
    if choice in (None, "auto", "required"):
        return Toolbox(tools=tuple(tools), must_call=choice == "required")
    assert choice is not None and not isinstance(choice, str)
    wanted = choice.function.name
    if wanted not in names:
        raise ApiError(
            f"tool_choice names {wanted!r}, which is no tool of the request",
            fix=nearest(wanted, names),
            param="tool_choice",
            code="invalid_value",
        )
    return Toolbox(tools=tuple(tool for tool in tools if tool.function.name == wanted), must_call=True)


def call_text(calls: Sequence[ToolCall]) -> str:
    """Calls of an earlier turn as the model wrote them."""
    return "\n".join(
        f'{OPENING}\n{{"name": {json.dumps(call.function.name)}, "arguments": {call.function.arguments}}}\n{CLOSING}'
        for call in calls
    )


def response_text(content: str) -> str:
    """What a tool gave back, as the user's turn that follows a call."""
    return f"<tool_response>\n{content}\n</tool_response>"


def read_call(text: str) -> dict[str, Any] | None:
    """The call in an answer, in the API's form; None where it is text or was cut off before its end."""
    inner = text.strip()
    if not (inner.startswith(OPENING) and inner.endswith(CLOSING)):
        return None
    call = json.loads(inner[len(OPENING) : -len(CLOSING)])
    arguments = json.dumps(call["arguments"], ensure_ascii=False)
    return {
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": call["name"], "arguments": arguments},
    }


def may_begin_call(text: str) -> bool:
    """Whether an answer that begins so may still become a call."""
    begun = text.lstrip()
    return begun.startswith(OPENING) or OPENING.startswith(begun)
