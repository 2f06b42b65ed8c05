"""What names an answer of our engine: every file of the checkpoint and every room of the code that decides it."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

import foveate
from foveate.evaluate.contract import Parameters, user
from foveate.evaluate.endpoints.engine import ANSWERING, EngineModel
from foveate.models import load

ROOT = Path(foveate.__file__).parent


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return Path(shutil.copytree(load().folder, tmp_path / "nano"))


def imported(room: str) -> set[str]:
    """Packages of foveate that a room's code imports, anywhere in a file."""
    names: set[str] = set()
    for file in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
    rooms = {name.split(".")[1] for name in names if name.startswith("foveate.")}
    return {name for name in rooms if (ROOT / name / "__init__.py").is_file()}


def test_the_code_that_names_an_answer_is_all_that_the_engine_imports():
    found, waiting = set(), {"engine"}
    while waiting:
        room = waiting.pop()
        found.add(room)
        waiting |= imported(room) - found
    assert set(ANSWERING) == found


def test_another_generation_config_is_another_answer(checkpoint):
    """It holds the tokens that end an answer, which neither the weights nor the prompt tell."""
    first = EngineModel(load(checkpoint))
    with (checkpoint / "generation_config.json").open("a") as out:
        out.write("\n")
    second = EngineModel(load(checkpoint))
    keys = [model.key([user("How many?")], Parameters()) for model in (first, second)]
    assert keys[0] != keys[1]
    assert first.describe()["weights_sha256"] == second.describe()["weights_sha256"]
