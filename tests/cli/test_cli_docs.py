"""What the tables of docs/cli.md are made of; tests/test_docs.py compares them with the page."""

from __future__ import annotations

from pathlib import Path

from foveate.cli import failures
from foveate.cli.reference import section

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"


def test_a_table_names_flags_defaults_and_meanings() -> None:
    table = section("chat")
    assert "| `--max-tokens` | `256` |" in table
    assert "| `--image`, `-i` |  |" in table
    assert "/reset" in section("session")


def test_exit_codes_are_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, code in vars(failures).items():
        if name.startswith("EXIT_"):
            assert f"| {code} |" in text, name
