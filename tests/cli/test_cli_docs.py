"""docs/cli.md says what the code does: its tables are made anew and compared."""

from __future__ import annotations

from pathlib import Path

from foveate.cli import failures
from foveate.cli.reference import SECTION, refresh, section
from foveate.cli.verbs import available

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_tables_are_in_step_with_the_code() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert refresh(text) == text, "run: python -m foveate.cli.reference docs/cli.md"


def test_every_verb_of_this_page_has_its_table() -> None:
    names = {match[2] for match in SECTION.finditer(DOCUMENT.read_text(encoding="utf-8"))}
    assert {"verbs", "session", "chat", "doctor", "ls"} <= names
    assert all(name.split()[0] in {"verbs", "session", *available()} for name in names)


def test_a_table_names_flags_defaults_and_meanings() -> None:
    table = section("chat")
    assert "| `--max-tokens` | `256` |" in table
    assert "| `--image`, `-i` |  |" in table
    assert "/reset" in section("session")


def test_a_changed_table_is_noticed() -> None:
    stale = "<!-- begin ls -->\n| old |\n<!-- end -->"
    assert refresh(stale) != stale
    assert "--families" in refresh(stale)


def test_exit_codes_are_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, code in vars(failures).items():
        if name.startswith("EXIT_"):
            assert f"| {code} |" in text, name
