"""Errors in OpenAI's shape: {"error": {"message", "type", "param", "code"}}, each with its HTTP status.

Owns the shape, the statuses and the words for fields that do not fit. Knows no routes and no engine loop.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from foveate.engine.async_engine import EngineStoppedError
from foveate.errors import ContextLengthError, FoveateError, MissingExtraError, ReductionError, nearest
from foveate.serve.safety.policy import MediaRefused
from foveate.serve.safety.quotas import QuotaRefused

_log = logging.getLogger(__name__)

KINDS = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


class ErrorBody(BaseModel):
    """What went wrong, and the field that it concerns."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """Every reply with a status of 400 or more."""

    error: ErrorBody


class ApiError(FoveateError):
    """An error with the status, field and code that a client of the API gets.

    Args:
        status: HTTP status.
        param: the field of the request, as `messages[0].content`.
        code: a word for programs.
        retry_after: seconds until it is worth another try.
    """

    def __init__(
        self,
        what: str,
        *,
        why: str = "",
        fix: str = "",
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(what, why=why, fix=fix)
        self.status, self.param, self.code, self.retry_after = status, param, code, retry_after


def as_api_error(error: BaseException) -> ApiError:
    """What a client is told of an exception; of unexpected ones, nothing but that they happened."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, EngineStoppedError):
        return _like(error, status=503, code="engine_failed", retry_after=1.0)
    if isinstance(error, MissingExtraError):
        return _like(error, status=501, code="not_installed")
    if isinstance(error, ContextLengthError):
        return _like(error, param="messages", code="context_length_exceeded")
    if isinstance(error, ReductionError):
        return _like(error, param="visual_budget", code="invalid_visual_budget")
    if isinstance(error, QuotaRefused):
        if error.retry_after is None:  # no waiting helps
            return _like(error, code=error.reason)
        return _like(error, status=429, code=error.reason, retry_after=error.retry_after)
    if isinstance(error, MediaRefused):
        return _like(error, code=f"media_{error.reason}")
    if isinstance(error, FoveateError):
        return _like(error, code="invalid_value")
    return ApiError(
        "The server failed to answer this request",
        why="an unexpected error, which its log describes",
        fix="Try again; if it fails again, tell whoever runs the server.",
        status=500,
        code="internal_error",
    )


def _like(error: FoveateError, **facts: Any) -> ApiError:
    return ApiError(error.what, why=error.why, fix=error.fix, **facts)


def error_body(error: ApiError) -> dict[str, Any]:
    """The JSON of an error."""
    kind = KINDS.get(error.status, "invalid_request_error")
    return {"error": {"message": str(error), "type": kind, "param": error.param, "code": error.code}}


def error_response(error: ApiError, *, headers: Mapping[str, str] | None = None) -> Response:
    """The reply to an error."""
    told = dict(headers or {})
    if error.retry_after is not None:
        told["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.status == 401:
        told["WWW-Authenticate"] = "Bearer"
    body = json.dumps(error_body(error), ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, status_code=error.status, media_type="application/json", headers=told)


def install(app: FastAPI) -> None:
    """Every error of the application leaves in this shape; its `state.api_routes` are all its endpoints."""

    async def on_foveate(_: Request, error: Exception) -> Response:
        return error_response(as_api_error(error))

    async def on_validation(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return error_response(validation_error(error.errors(), error.body))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = _allowed(request)
        return error_response(_http_error(request, error), headers=headers)

    async def on_unexpected(_: Request, error: Exception) -> Response:
        # Starlette logs the traceback itself when it raises the error again behind this reply.
        return error_response(as_api_error(error))

    app.add_exception_handler(FoveateError, on_foveate)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_unexpected)


def _allowed(request: Request) -> str:
    """The methods that a path takes, in all of its routes: the first route alone does not know the others."""
    routes: Sequence[APIRoute] = request.app.state.api_routes
    own = [route for route in routes if route.path_regex.match(request.url.path)]
    return ", ".join(sorted({method for route in own for method in route.methods or ()}))


def _http_error(request: Request, error: HTTPException) -> ApiError:
    path, status = request.url.path, error.status_code
    if status == 404 and error.detail == "Not Found":
        return ApiError(
            f"There is no {path}", fix="The paths are in /openapi.json.", status=404, code="not_found"
        )
    if status == 405:
        return ApiError(
            f"{path} does not take {request.method}",
            fix=f"Use {_allowed(request) or 'another path'}.",
            status=405,
            code="method_not_allowed",
        )
    return ApiError(str(error.detail), status=status, code="bad_request")


# -- fields that do not fit ------------------------------------------------------------------------------------


def validation_error(errors: Sequence[Mapping[str, Any]], body: Any) -> ApiError:
    """One error of pydantic's list: the one that lies deepest, for in a choice of forms that is the form meant."""
    deepest = max(errors, key=lambda error: (len(error["loc"]), error["type"] == "extra_forbidden"))
    place, kind = tuple(deepest["loc"]), str(deepest["type"])
    if kind == "json_invalid":
        return ApiError(
            "The body is not JSON", why=str(deepest.get("ctx", {}).get("error", "")), code="invalid_json"
        )
    name = _field(place[1:], body if place[:1] == ("body",) else {}, kind)
    if kind == "missing" and not name:
        return ApiError(
            "The body is missing", fix="Send a JSON object as application/json.", code="missing_body"
        )
    if kind == "missing":
        return ApiError(f"{name} is missing", fix="Add it.", param=name, code="missing_required_parameter")
    if kind == "extra_forbidden":
        return _unknown_field(name, str(place[-1]))
    reason = str(deepest["msg"]).removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    return ApiError(
        f"{name or 'The body'} is not valid", why=reason, param=name or None, code="invalid_value"
    )


def _unknown_field(name: str, last: str) -> ApiError:
    from foveate.serve.protocol.common import REFUSED_FIELDS, known_fields

    if last in REFUSED_FIELDS:
        return ApiError(
            f"{name} is not supported",
            why=REFUSED_FIELDS[last],
            fix="Send the request without it.",
            param=name,
            code="unsupported_parameter",
        )
    return ApiError(
        f"Unknown field {name}",
        why="fields that are not known are refused, never ignored",
        fix=_hint(last, known_fields()),
        param=name,
        code="unknown_parameter",
    )


def _hint(name: str, known: Iterable[str]) -> str:
    hint = nearest(name, known)
    return hint if hint.startswith("Did you mean") else "The fields are in /openapi.json."


def _field(place: Sequence[str | int], body: Any, kind: str) -> str:
    """The field's name: pydantic's place without the names of the forms that it tried."""
    name, node = "", body
    for depth, step in enumerate(place):
        last = depth == len(place) - 1
        if isinstance(step, int) and isinstance(node, list) and step < len(node):
            name, node = f"{name}[{step}]", node[step]
        elif isinstance(step, str) and isinstance(node, Mapping) and step in node:
            name, node = f"{name}.{step}", node[step]
        elif (last and kind in ("missing", "extra_forbidden")) or not isinstance(body, Mapping) or not body:
            name = f"{name}.{step}"
    return name.removeprefix(".")
