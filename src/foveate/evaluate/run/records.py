"""Replies and scores as JSON and back, so that what was written once is read the same way by everybody.

Owns which facts of a reply are kept apart: seconds, and how much of a prompt a cache held, differ from run to run
while the reply is the same. `samples.jsonl` and the answers' cache leave them out. Knows no files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from foveate.evaluate.contract import Message, Picture, Reply, Score

Row = dict[str, Any]
# What a run may change without changing the reply.
PASSING = ("seconds", "cached_tokens")


def plain(row: Row) -> Row:
    """As it is once it was written and read: tuples are lists."""
    read: Row = json.loads(json.dumps(row))
    return read


def reply_to_row(reply: Reply) -> Row:
    """The reply without what passes (`PASSING`); its earlier turns alike."""
    return {
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "prompt_tokens": reply.prompt_tokens,
        "generated_tokens": reply.generated_tokens,
        "image_tokens": reply.image_tokens,
        "image_tokens_kept": reply.image_tokens_kept,
        "pictures": [dict(picture) for picture in reply.pictures],
        "box_format": reply.box_format,
        "earlier": [reply_to_row(turn) for turn in reply.earlier],
    }


def reply_from_row(row: Mapping[str, Any]) -> Reply:
    """The inverse of `reply_to_row`.

    Raises:
        TypeError, KeyError: a row of another form.
    """
    return Reply(
        **{
            **row,
            "pictures": tuple(row["pictures"]),
            "earlier": tuple(reply_from_row(turn) for turn in row["earlier"]),
        }
    )


def passing_facts(reply: Reply) -> Row:
    """What `reply_to_row` leaves out; seconds of the last turn, with those of earlier ones in a list."""
    facts: Row = {"seconds": {name: round(value, 6) for name, value in reply.seconds.items()}}
    if reply.cached_tokens is not None:
        facts["cached_tokens"] = reply.cached_tokens
    if reply.earlier:
        facts["earlier"] = [passing_facts(turn) for turn in reply.earlier]
    return facts


def score_to_row(score: Score) -> Row:
    """Plain data."""
    return {
        "outcome": score.outcome,
        "value": score.value,
        "parsed": score.parsed,
        "details": dict(score.details),
    }


def score_from_row(row: Mapping[str, Any]) -> Score:
    """The inverse of `score_to_row`."""
    return Score(**row)


def words_of(message: Message) -> str:
    """The text of a message, its parts joined as they stand."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def last_question(messages: Sequence[Message]) -> str:
    """The text of the last user's message; empty where there is none."""
    return next((words_of(message) for message in reversed(messages) if message["role"] == "user"), "")


def messages_digest(messages: Sequence[Message]) -> str:
    """Names what an item asks: roles, texts and pictures' names. Pixels are named in the reply, where they are read."""
    plain = [
        {"role": message["role"], "content": [_plain(part) for part in _parts(message)]}
        for message in messages
    ]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _parts(message: Message) -> Sequence[Mapping[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _plain(part: Mapping[str, Any]) -> Row:
    return {
        name: value.name if isinstance(value, Picture) else value
        for name, value in part.items()
        if isinstance(value, str | Picture)
    }
