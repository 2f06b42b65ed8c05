"""What the command line says and returns when something goes wrong.

Owns the exit codes, the single error line and the JSON error object. Does not know which verb failed.

Exit codes: 0 done, 1 an unexpected failure of ours, 2 bad input, 130 stopped by Ctrl-C, 141 the reader of our
output went away (128 + SIGPIPE, as shells report it).
"""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any

import typer

from foveate.errors import FoveateError, MissingExtraError, nearest

EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def one_line(text: str) -> str:
    """The text with every run of white space, newlines too, made one space."""
    return " ".join(text.split())


def usage_error(error: typer.TyperException) -> FoveateError:
    """A parser's complaint in our words, with the nearest known flag where a flag is unknown."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "foveate"
    flag = getattr(error, "option_name", None)
    if flag is not None and context is not None and hasattr(error, "possibilities"):
        known = [name for parameter in context.command.params for name in parameter.opts if name[:1] == "-"]
        return FoveateError(
            f"unknown flag {flag!r}", why=f"{path!r} has no such flag", fix=nearest(flag, known)
        )
    return FoveateError(one_line(error.format_message()), fix=f"See: {path} --help")


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """The extra whose package was not found, with its install line; None if no extra of ours holds it."""
    from foveate.cli.machine import extras

    wanted = (error.name or "").split(".")[0]
    for extra in extras():
        for package in extra.packages:
            # A distribution's name differs from its module's by the dash (prometheus-client) at most.
            if package.replace("-", "_") == wanted:
                return MissingExtraError(package, extra.name, "this command")
    return None


def _is_help(error: typer.TyperException) -> bool:
    """A verb with sub-verbs called alone: the parser raises its help page as an error."""
    context = getattr(error, "ctx", None)
    return context is not None and error.format_message() == context.get_help()


def describe(error: BaseException) -> dict[str, str]:
    """The parts of an error for `--json`: type, message (the whole line), what, why, fix."""
    if not isinstance(error, FoveateError):
        message = one_line(f"{type(error).__name__}: {error}")
        error = FoveateError(
            "unexpected failure", why=message, fix="Run again with --debug to see where it happened."
        )
        kind = "InternalError"
    else:
        kind = type(error).__name__
    return {
        "type": kind,
        "message": one_line(str(error)),
        "what": error.what,
        "why": error.why,
        "fix": error.fix,
    }


def report(error: BaseException, *, debug: bool, as_json: bool) -> int:
    """Print one line on stderr (a traceback before it with `debug`), a JSON object on stdout when asked.

    Returns:
        the exit code.
    """
    if isinstance(error, typer.TyperException):
        if _is_help(error):
            print(error.format_message())
            return 0
        error = usage_error(error)
    elif isinstance(error, ModuleNotFoundError):
        error = missing_extra(error) or error
    if debug:
        traceback.print_exception(error)
    parts = describe(error)
    if as_json:
        print(json.dumps({"error": parts}, ensure_ascii=False), flush=True)
    print(f"foveate: error: {parts['message']}", file=sys.stderr)
    return EXIT_BAD_INPUT if isinstance(error, FoveateError) else EXIT_FAILURE


def as_dict(value: Any) -> str:
    """Indented JSON as every `--json` prints it."""
    return json.dumps(value, indent=2, ensure_ascii=False)
