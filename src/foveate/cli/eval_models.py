"""The model that `foveate eval run` asks: our engine in this process, or a server.

Owns the flags that belong to one of the two and are refused with the other. Imports no torch before a model is loaded.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from foveate.cli.arguments import EMBEDDED_MODEL
from foveate.cli.chat import load_model
from foveate.cli.terminal import note
from foveate.errors import FoveateError

if TYPE_CHECKING:
    from foveate.evaluate.contract import Model

DEFAULT_KEY = "OPENAI_API_KEY"


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """What the command line says about the model; see `foveate eval run --help`."""

    model: str | None
    endpoint: str | None
    model_name: str | None
    key_variable: str | None
    rate: float | None
    timeout: float | None
    retries: int | None
    codec: str | None
    body: str | None
    concurrency: int
    dtype: str
    device: str
    quantise: str | None


def open_model(flags: ModelFlags) -> Model:
    """The model, loaded or found at its address.

    Raises:
        FoveateError: flags that do not go together, no such model, or no server there.
    """
    if flags.endpoint is None:
        return _engine(flags)
    misplaced = {
        "--model": flags.model,
        "--quantise": flags.quantise,
        "--dtype": None if flags.dtype == "auto" else flags.dtype,
        "--device": None if flags.device == "auto" else flags.device,
    }
    if given := [name for name, value in misplaced.items() if value is not None]:
        raise FoveateError(
            f"{given[0]} is given with --endpoint",
            why="it belongs to a model in this process",
            fix="Leave one out; --model-name names the endpoint's model.",
        )
    return _endpoint(flags, flags.endpoint)


def _engine(flags: ModelFlags) -> Model:
    misplaced = {
        "--model-name": flags.model_name,
        "--key-from": flags.key_variable,
        "--rate": flags.rate,
        "--timeout": flags.timeout,
        "--retries": flags.retries,
        "--codec": flags.codec,
        "--body": flags.body,
    }
    if given := [name for name, value in misplaced.items() if value is not None]:
        raise FoveateError(
            f"{given[0]} is given without --endpoint", fix="Name the server: --endpoint http://host:port"
        )
    loaded = load_model(
        flags.model or EMBEDDED_MODEL, dtype=flags.dtype, device=flags.device, quantise=flags.quantise
    )
    from foveate.evaluate.endpoints.engine import EngineModel

    return EngineModel(loaded, concurrency=flags.concurrency)


def _endpoint(flags: ModelFlags, url: str) -> Model:
    from foveate.evaluate.endpoints.openai import EndpointSettings, OpenAIModel, served_model

    key = _key(flags.key_variable, url)
    # What is not given stays as the settings have it.
    given: dict[str, Any] = {"codec": flags.codec, "timeout": flags.timeout, "retries": flags.retries}
    settings = EndpointSettings(
        url=url,
        model=flags.model_name or served_model(url, key=key),
        rate=flags.rate,
        extra=_fields(flags.body),
        **{name: value for name, value in given.items() if value is not None},
    )
    return OpenAIModel(settings, key=key)


def _key(variable: str | None, url: str) -> str | None:
    """The key that the endpoint is sent; said aloud, for not every endpoint is whom one's usual key is for.

    Raises:
        FoveateError: a variable is named and holds nothing.
    """
    key = os.environ.get(variable or DEFAULT_KEY) or None
    if key is None and variable is not None:
        raise FoveateError(
            f"--key-from names {variable}",
            why="this environment variable is not set",
            fix=f"Such as: export {variable}=...",
        )
    if key is not None:
        note(f"the key in {variable or DEFAULT_KEY} is sent to {urlsplit(url).hostname}")
    return key


def _fields(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise FoveateError(f"--body is {text!r}", why=f"it is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise FoveateError(
            f"--body is {text!r}", why="it must be an object", fix="""Such as: '{"top_p": 1}'"""
        )
    return found
