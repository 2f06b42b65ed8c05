"""The entry point `foveate`: the root command, global flags and the last word on every failure.

Owns argument hand-over and exit codes. Does not know the verbs beyond their table, and imports none of them,
nor torch, transformers or numpy, until one is called.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from foveate import __version__
from foveate.cli.failures import EXIT_BROKEN_PIPE, EXIT_INTERRUPTED, report
from foveate.cli.verbs import HELP_FLAGS, LazyGroup

app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    rich_markup_mode=None,  # rich alone would take a third of the time that --help may
    invoke_without_command=True,
    context_settings=HELP_FLAGS,
    subcommand_metavar="VERB [ARGUMENTS]...",
)


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")] = False,
) -> None:
    """Foveate: vision-language models that spend compute on the part of the picture the question needs.

    First answer: foveate chat examples/shapes.png "How many objects are there?"
    """
    if version:
        print(f"foveate {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; see `foveate.cli.failures` for the codes.

    Args:
        arguments: words after `foveate`; those of this process by default.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    own = words[: words.index("--")] if "--" in words else words
    debug, as_json = "--debug" in own, "--json" in own
    # --debug may stand after the verb too, where a person adds it on the second try.
    words = ["--debug"] * debug + [word for word in own if word != "--debug"] + words[len(own) :]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # a terminal without a character still shows the rest
    try:
        # Not Command.main(): it turns a broken pipe and Ctrl-C into exits of its own before we see them.
        command = typer.main.get_command(app)
        with command.make_context("foveate", words) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except typer.Exit as done:
        sys.stdout.flush()
        return done.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more at exit; let that write go nowhere instead of raising again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the last frame of the process: everything becomes one line
        return report(error, debug=debug, as_json=as_json)
