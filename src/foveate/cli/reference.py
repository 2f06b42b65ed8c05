"""The option tables of docs/cli.md, made from the commands themselves.

`python docs/generate.py` puts them there; a test compares, so the document cannot promise a flag that is not
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foveate.cli.session import COMMANDS
from foveate.cli.verbs import VERBS, load_verb


def section(name: str) -> str:
    """One table in Markdown: `verbs`, `session`, a verb, or a verb and its sub-verb ("world sample")."""
    if name == "verbs":
        return _table(
            ("Verb", "What it does", "Needs"),
            [
                (
                    f"`foveate {verb}`",
                    VERBS[verb].help,
                    f"`foveate[{VERBS[verb].extra}]`" if VERBS[verb].extra else "",
                )
                for verb in VERBS
            ],
        )
    if name == "session":
        return _table(
            ("Command", "What it does"),
            [(f"`{f'{word} {argument}'.strip()}`", text) for word, (argument, text) in COMMANDS.items()],
        )
    verb, *rest = name.split()
    command = load_verb(verb)
    for word in rest:
        command = command.commands[word]
    return _options(command)


def _options(command: Any) -> str:
    """Flags with defaults and meanings; with a column for environment variables where a command has some."""
    rows: list[tuple[str, ...]] = []
    for parameter in command.params:
        variable = f"`{parameter.envvar}`" if parameter.envvar else ""
        if parameter.param_type_name == "argument":
            name = f"`{parameter.metavar or parameter.name.upper()}`"
            rows.append((name, "", parameter.help or "", variable))
            continue
        flags = ", ".join(f"`{flag}`" for flag in [*parameter.opts, *parameter.secondary_opts])
        rows.append((flags, _default(parameter), parameter.help or "", variable))
    header: tuple[str, ...] = ("Flag", "Default", "Meaning", "Environment")
    if not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return _table(header, rows)


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.secondary_opts:  # --this/--no-this: the one in force when neither is given
        return f"`{(parameter.opts if parameter.default else parameter.secondary_opts)[0]}`"
    if parameter.is_flag or parameter.default in (None, [], ()):
        return ""
    return f"`{parameter.default}`"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    cells = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)
