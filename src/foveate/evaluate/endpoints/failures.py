"""What can go wrong with a reply over HTTP, each kind by its name, and whether another try may help.

Owns reading a response into a reply's parts or an error. Sends nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from foveate.evaluate.contract import EvaluationError

# Statuses that pass: time-outs, too many requests, and a server or its proxy in trouble (529: overloaded).
PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
# What a choice ends with where the server failed in the middle of it: what it said until then is no answer.
FAILED_REASONS = frozenset({"error", "abort"})
_SHORT = 300


class EndpointError(EvaluationError):
    """No reply could be had.

    Attributes:
        kind: "timeout", "connection", "HTTP 500", "HTML", "broken JSON", "empty choices" or "error in the reply".
        passing: whether another try may help.
        retry_after: seconds the server asks to wait; None where it does not say.
    """

    def __init__(
        self, kind: str, why: str, *, passing: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(f"The endpoint gave no reply ({kind})", why=_shortened(why))
        self.kind, self.passing, self.retry_after = kind, passing, retry_after


def transport_error(error: httpx2.HTTPError) -> EndpointError:
    """A request that got no whole response."""
    kind = "timeout" if isinstance(error, httpx2.TimeoutException) else "connection"
    return EndpointError(kind, f"{type(error).__name__}: {error}", passing=True)


def read_reply(response: httpx2.Response) -> dict[str, Any]:
    """The reply's JSON, which has a first choice with a message that the server did not fail on.

    Raises:
        EndpointError: it is none.
    """
    if response.status_code != 200:
        raise EndpointError(
            f"HTTP {response.status_code}",
            _said(response),
            passing=response.status_code in PASSING_STATUSES,
            retry_after=_retry_after(response.headers.get("retry-after")),
        )
    text = response.text
    if text.lstrip()[:1] == "<":
        raise EndpointError("HTML", f"a page instead of JSON: {_title(text)}")
    try:
        data = _parsed(text)
    except ValueError as error:
        end = text[-80:]
        raise EndpointError("broken JSON", f"{error}; it ends in {end!r}", passing=True) from error
    if isinstance(data, dict) and data.get("error"):
        raise EndpointError("error in the reply", _error_message(data))
    choices = data.get("choices") if isinstance(data, dict) else None
    if not (isinstance(choices, list) and choices):
        raise EndpointError("empty choices", f"the reply has no choices: {text}", passing=True)
    choice = choices[0]
    # Routers send a provider's failure in the choice, with status 200 and half an answer or none.
    if isinstance(choice, dict) and (choice.get("error") or choice.get("finish_reason") in FAILED_REASONS):
        why = _error_message(choice) if choice.get("error") else f"it ended by {choice['finish_reason']!r}"
        raise EndpointError("error in the reply", why, passing=True)
    if not (isinstance(choice, dict) and isinstance(choice.get("message"), dict)):
        raise EndpointError("broken JSON", f"the first choice has no message: {text}")
    return data


def text_of(message: Mapping[str, Any]) -> str:
    """What the model said: its content, in parts or whole, or its refusal; empty where it said nothing."""
    content = message.get("content") or message.get("refusal") or ""
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    # Half a surrogate pair, which JSON can spell, is no character and could not be written to a file.
    return str(content).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def count_of(usage: Any, *names: str) -> int | None:
    """A count in `usage`, by the names that lead to it; None where it is not told."""
    for name in names:
        usage = usage.get(name) if isinstance(usage, dict) else None
    return usage if isinstance(usage, int) and not isinstance(usage, bool) else None


def _said(response: httpx2.Response) -> str:
    text = response.text.strip()
    if text[:1] == "<":
        return f"a page: {_title(text)}"
    try:
        return _error_message(_parsed(text))
    except ValueError:
        return text or "without a word"


def _parsed(text: str) -> Any:
    """JSON, which may not be nested so deeply that Python cannot read it.

    Raises:
        ValueError: it is none.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _error_message(data: Any) -> str:
    error = data.get("error", data) if isinstance(data, dict) else data
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or error)


def _title(page: str) -> str:
    found = re.search(r"<title[^>]*>(.*?)</title>", page, re.IGNORECASE | re.DOTALL)
    return found[1] if found else re.sub(r"<[^>]*>", " ", page)


def _retry_after(value: str | None) -> float | None:
    """Seconds, from a number or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else line[:_SHORT] + "…"
