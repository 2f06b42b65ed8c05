"""Options and paths that several rooms' tests share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# `tiny.py` (tiny checkpoints of every family) is used by the tests of every room that runs a model.
sys.path.insert(0, str(Path(__file__).parent / "models"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """--write-parity keeps what the parity tests measured in results/parity.json."""
    parser.addoption(
        "--write-parity", action="store_true", help="write results/parity.json from the parity tests"
    )
