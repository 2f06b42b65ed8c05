"""`foveate serve`: one model behind an OpenAI-compatible API.

Owns the flags, each with its environment variable: those of the server are the fields of `ServeSettings`, and a few
more say which model runs and how. Settings are checked and the port is taken before a model is loaded.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import sys
import typing
from typing import Annotated, Any, Literal

import typer

from foveate.cli.arguments import EMBEDDED_MODEL
from foveate.cli.chat import DataType, Quantisation, load_model
from foveate.cli.terminal import note
from foveate.decode.settings import parse_speculation
from foveate.serve.settings import ServeSettings, environment_variable

LogLevel = Literal["debug", "info", "warning", "error"]
# name: type, default, metavar, help
MODEL_FLAGS: dict[str, tuple[Any, Any, str | None, str]] = {
    "dtype": (DataType, "auto", None, "Number format of the weights."),
    "quantise": (
        Quantisation | None,
        None,
        None,
        "Keep the language model's weights in 8 or 4 bits.",
    ),
    "device": (str, "auto", "DEVICE", "auto, cpu, cuda, cuda:1, mps."),
    "max_sequences": (int, 32, "N", "Answers that run at once."),
    "max_step_tokens": (int, 512, "N", "Tokens that one step of the engine runs."),
    "kv_blocks": (int | None, None, "N", "Blocks of 16 tokens in the key-value cache; else by memory."),
    "speculate": (
        str,
        "off",
        "DRAFT",
        "Guess tokens ahead, same answers: off, auto, ngram, or the folder of a head or small model.",
    ),
    "preprocess_workers": (int, 2, "N", "Threads that open and resize pictures."),
    "log_level": (LogLevel, "warning", None, "What is logged; never prompts, answers, keys or pictures."),
}


def _parameters() -> list[inspect.Parameter]:
    """The command's parameters: the model, the server's settings, the model's flags."""
    reference = Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            envvar=environment_variable("model"),
            help=f"Folder or hub name (name@revision); else {EMBEDDED_MODEL}.",
        ),
    ]
    parameters = [_parameter("model", reference, None)]
    hints = typing.get_type_hints(ServeSettings)
    for entry in dataclasses.fields(ServeSettings):
        kind = hints[entry.name]
        default = entry.default
        if typing.get_origin(kind) is tuple:  # given again and again; several in a variable, parted by blanks
            kind, default = list[str] | None, None
        option = _option(entry.name, kind, entry.metadata["metavar"], entry.metadata["help"])
        parameters.append(_parameter(entry.name, option, default))
    for name, (kind, default, metavar, text) in MODEL_FLAGS.items():
        parameters.append(_parameter(name, _option(name, kind, metavar, text), default))
    text = "Print a new API key, and its entry for --api-key-file, and exit."
    new_key = Annotated[str | None, typer.Option("--new-key", metavar="CALLER", help=text)]
    return [*parameters, _parameter("new_key", new_key, None)]


def _option(name: str, kind: Any, metavar: str | None, text: str) -> Any:
    flag = f"--{name.replace('_', '-')}"
    words = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
    return Annotated[kind, typer.Option(words, envvar=environment_variable(name), metavar=metavar, help=text)]


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def command(**given: Any) -> None:
    """Serve a model with an OpenAI-compatible API, and a playground at the printed address.

    foveate serve --visual-budget 25%
    """
    if given["new_key"] is not None:
        _print_key(given["new_key"])
        return
    from foveate.reduce.budget import Budget
    from foveate.reduce.registry import find
    from foveate.serve.process import bind, run_server, url_of
    from foveate.serve.running import listed

    names = {entry.name for entry in dataclasses.fields(ServeSettings)}
    lists = {name for name, value in given.items() if isinstance(value, list)}
    told: dict[str, Any] = {
        name: tuple(value) if name in lists else value
        for name, value in given.items()
        if name in names and value is not None
    }
    settings = ServeSettings(**told)
    parse_speculation(given["speculate"])
    Budget.parse(settings.visual_budget)
    find(settings.reducer)
    logging.basicConfig(
        stream=sys.stderr,
        level=given["log_level"].upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    listener = bind(settings)
    try:
        front = _front(given, settings)
        if not settings.is_local and settings.api_key_file is None:
            note(
                f"warning: {settings.host} can be reached by others, and no key is asked for; "
                "give --api-key-file, or --host 127.0.0.1"
            )
        url, name = url_of(listener, settings), settings.model_name or str(front.model.ref)
        with listed(url, name) as show:

            def announce() -> None:
                print(f"Foveate serves {name} at {url}", flush=True)
                show()

            run_server(front, settings, listener, announce=announce)
    finally:
        listener.close()


command.__signature__ = inspect.Signature(_parameters())  # type: ignore[attr-defined]


def _print_key(caller: str) -> None:
    """The entry on stdout, to be appended to a file; the key on stderr, for the caller alone."""
    from foveate.serve.safety.keys import new_key

    made = new_key(caller)
    note(f"the key of {caller}, shown this once: {made.key}")
    print(made.entry)


def _front(given: dict[str, Any], settings: ServeSettings) -> Any:
    """The model, loaded, behind an engine."""
    from foveate.engine import EngineConfig
    from foveate.serve import EngineFront

    config = EngineConfig(
        max_sequences=given["max_sequences"],
        max_step_tokens=given["max_step_tokens"],
        kv_blocks=given["kv_blocks"],
        speculation=parse_speculation(given["speculate"]),
    )
    model = load_model(
        given["model"] or EMBEDDED_MODEL,
        dtype=given["dtype"],
        device=given["device"],
        quantise=given["quantise"],
    )
    return EngineFront(
        model, config, max_queue=settings.max_queue, preprocess_workers=given["preprocess_workers"]
    )
