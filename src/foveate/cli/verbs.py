"""The table of verbs and the typer group that loads each one only when it is called.

Owns the names, one-line helps and files of the verbs. Does not know what a verb does: a verb file exports
either `command`, a function with typer annotations, or `app`, a `typer.Typer` with verbs of its own.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from foveate.errors import FoveateError, nearest

HELP_FLAGS = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One verb: where it lives and what `foveate --help` says about it."""

    module: str
    help: str
    extra: str | None = None  # the optional dependencies it needs: pip install 'foveate[extra]'


VERBS: dict[str, Verb] = {
    "chat": Verb(module="foveate.cli.chat", help="Ask a model about pictures: one question, or a session."),
    "serve": Verb(
        module="foveate.cli.serve", help="An OpenAI-compatible server with a playground.", extra="serve"
    ),
    "stream": Verb(
        module="foveate.cli.stream", help="Watch a video, camera or address that never ends.", extra="video"
    ),
    "ps": Verb(module="foveate.cli.ps", help="Your servers on this machine: memory, requests, uptime."),
    "doctor": Verb(
        module="foveate.cli.doctor", help="What this machine offers and what load() would choose."
    ),
    "ls": Verb(module="foveate.cli.ls", help="Models known here, and the supported families."),
    "world": Verb(module="foveate.cli.world", help="Sample procedural scenes with exact truth."),
    "train": Verb(module="foveate.cli.train", help="Train a model on the world.", extra="train"),
    "eval": Verb(module="foveate.cli.eval", help="Tasks asked of any model, with intervals and reports."),
    "eval-nano": Verb(module="foveate.cli.eval_nano", help="Accuracy of fovea-nano per question family."),
    "bench": Verb(
        module="foveate.cli.bench",
        help="Compare visual-token reduction methods on the same questions.",
        extra="plots",
    ),
    "claims": Verb(module="foveate.cli.claims", help="Published claims, shown or not shown here."),
}


def available() -> list[str]:
    """Names of the verbs whose file is part of this installation, in table order."""
    return [name for name, verb in VERBS.items() if importlib.util.find_spec(verb.module) is not None]


def load_verb(name: str) -> Any:
    """The command object of a verb, importing its file."""
    module = importlib.import_module(VERBS[name].module)
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name, context_settings=HELP_FLAGS)(module.command)
    command = typer.main.get_command(app)
    command.name = name
    return command


class LazyGroup(TyperGroup):
    """A group that knows its verbs by name and imports one only to run it."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return available()

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        return load_verb(cmd_name) if cmd_name in available() else None

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        if args[0] not in available():
            raise FoveateError(f"unknown verb {args[0]!r}", fix=_hint(args))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """List the verbs from the table: asking each for its help would import them all."""
        rows = [(name, VERBS[name].help) for name in available()]
        if rows:
            with formatter.section("Verbs"):
                formatter.write_dl(rows)


def _hint(arguments: Sequence[str]) -> str:
    if Path(arguments[0]).suffix or " " in arguments[0]:  # a picture or a question: the verb was left out
        return 'To ask about a picture: foveate chat IMAGE "QUESTION".'
    return nearest(arguments[0], available())
