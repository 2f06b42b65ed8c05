"""Tools and response formats: a model that never saw either is held to them, whole and streamed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from live_server import LiveServer

from foveate.serve.replies import _hold_call
from foveate.serve.tools import read_call


def tool(name: str, **properties: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": "A tool.", "parameters": schema}}


TOOLS: Any = [
    tool("paint", colour={"enum": ["red", "blue"]}),
    tool("count", n={"type": "integer", "minimum": 0, "maximum": 9}),
]
CHECKS: dict[str, Callable[[Any], bool]] = {
    "paint": lambda arguments: arguments["colour"] in ("red", "blue"),
    "count": lambda arguments: 0 <= arguments["n"] <= 9,
}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "paint"}}])
def test_a_call_meets_its_schema(client: openai.OpenAI, ask: Callable[..., Any], choice: Any) -> None:
    whole = client.chat.completions.create(
        model="fovea-nano", messages=ask(), tools=TOOLS, tool_choice=choice
    ).choices[0]
    assert whole.finish_reason == "tool_calls" and whole.message.content is None
    [call] = whole.message.tool_calls or []
    assert call.type == "function" and CHECKS[call.function.name](json.loads(call.function.arguments))
    assert isinstance(choice, str) or call.function.name == "paint"
    chunks = list(
        client.chat.completions.create(
            model="fovea-nano", messages=ask(), tools=TOOLS, tool_choice=choice, stream=True
        )
    )
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert not any(chunk.choices[0].delta.content for chunk in chunks)
    [streamed] = [one for chunk in chunks for one in chunk.choices[0].delta.tool_calls or []]
    assert streamed.function is not None and streamed.id
    assert streamed.function.name == call.function.name
    assert streamed.function.arguments == call.function.arguments


def test_tools_leave_text_alone_unless_a_call_is_asked_for(
    client: openai.OpenAI, ask: Callable[..., Any]
) -> None:
    plain = client.chat.completions.create(model="fovea-nano", messages=ask()).choices[0].message.content
    unused = client.chat.completions.create(
        model="fovea-nano", messages=ask(), tools=TOOLS, tool_choice="none"
    ).choices[0]
    assert unused.message.content == plain and unused.message.tool_calls is None
    free = client.chat.completions.create(model="fovea-nano", messages=ask(), tools=TOOLS).choices[0]
    chunks = client.chat.completions.create(model="fovea-nano", messages=ask(), tools=TOOLS, stream=True)
    assert free.message.content == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_a_call_and_its_result_go_back_into_the_conversation(
    client: openai.OpenAI, server: LiveServer, ask: Callable[..., Any]
) -> None:
    message = (
        client.chat.completions.create(
            model="fovea-nano", messages=ask(), tools=TOOLS, tool_choice="required"
        )
        .choices[0]
        .message
    )
    assert message.tool_calls
    history = [*ask(), message.model_dump(), {"role": "tool", "tool_call_id": "x", "content": "blue"}]
    reply = server.chat(history, tools=TOOLS, max_tokens=8)
    assert reply.status_code == 200, reply.text
    longer = server.post("/tokenize", messages=history).json()["count"]
    assert longer > server.post("/tokenize", messages=ask()).json()["count"] + 20


def test_json_schemas_and_objects(client: openai.OpenAI, ask: Callable[..., Any]) -> None:
    schema = TOOLS[1]["function"]["parameters"]
    form: Any = {"type": "json_schema", "json_schema": {"name": "count", "schema": schema, "strict": True}}
    reply = client.chat.completions.create(model="fovea-nano", messages=ask(), response_format=form)
    assert CHECKS["count"](json.loads(reply.choices[0].message.content or ""))
    reply = client.chat.completions.create(
        model="fovea-nano",
        messages=ask(),
        response_format={"type": "json_object"},
        max_tokens=8,
    )
    assert (reply.choices[0].message.content or "").startswith("{")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tool_choice": "required"}, "without tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "pain"}}}, "paint"),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "Two tools are called 'paint'"),
        ({"tools": TOOLS, "response_format": {"type": "json_object"}}, "held to one form"),
        ({"tools": [tool("odd", a={"type": "strung"})]}, "strung"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"type": "no"}},
                }
            },
            "cannot be held",
        ),
        ({"functions": []}, "it was replaced by tools"),
    ],
)
def test_what_cannot_be_held_is_refused(server: LiveServer, fields: dict[str, Any], words: str) -> None:
    reply = server.chat([{"role": "user", "content": "Hello"}], **fields)
    assert reply.status_code == 400 and words in reply.json()["error"]["message"]


def test_text_that_only_looks_like_a_call_at_first_is_let_go() -> None:
    from foveate.engine import StepOutput

    def run(*pieces: str) -> tuple[str, Any]:
        held: dict[int, str | None] = {}
        shown, call = "", None
        for at, piece in enumerate(pieces):
            end = "stop" if at == len(pieces) - 1 else None
            output = StepOutput(request_id="r", index=0, token_ids=(), text=piece, finish_reason=end)
            text, call = _hold_call(held, output)
            shown += text
        return shown, call

    assert run("<to", "ol", "s are here") == ("<tools are here", None)
    assert run("Say ", "<tool_call>", "{}</tool_call>") == ("Say <tool_call>{}</tool_call>", None)
    assert run("<tool_call>", '{"name": "f", "argu') == ('<tool_call>{"name": "f", "argu', None)
    shown, call = run("<tool", '_call>{"name": "f", "arguments": {}}', "</tool_call>")
    assert shown == "" and call["function"] == {"name": "f", "arguments": "{}"}
    assert read_call("Hello") is None
