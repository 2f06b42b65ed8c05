"""The option tables of docs/cli.md, made from the commands themselves.

`python -m foveate.cli.reference docs/cli.md` rewrites the parts between `<!-- begin NAME -->` and
`<!-- end -->`; a test compares them, so the document cannot promise a flag that is not there. NAME is
`verbs`, `session`, a verb, or a verb and its sub-verb ("world sample").
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foveate.cli.session import COMMANDS
from foveate.cli.verbs import VERBS, load_verb

SECTION = re.compile(r"(<!-- begin ([^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def refresh(document: str) -> str:
    """The document with every generated part made anew."""
    return SECTION.sub(lambda match: f"{match[1]}{section(match[2])}\n{match[3]}", document)


def section(name: str) -> str:
    """One generated part, as a Markdown table."""
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
    rows: list[tuple[str, ...]] = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            rows.append((f"`{parameter.metavar or parameter.name.upper()}`", "", parameter.help or ""))
            continue
        flags = ", ".join(f"`{flag}`" for flag in [*parameter.opts, *parameter.secondary_opts])
        rows.append((flags, _default(parameter), parameter.help or ""))
    return _table(("Flag", "Default", "Meaning"), rows)


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


def main() -> None:
    """Rewrite the files named on the command line."""
    for name in sys.argv[1:]:
        file = Path(name)
        file.write_text(refresh(file.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
