"""Fixtures for the command line: run it as a process, tiny checkpoints to point it at, pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))  # for tiny.py, which builds random checkpoints

Runner = Callable[..., "subprocess.CompletedProcess[str]"]


def child_environment(**changes: str) -> dict[str, str]:
    """This process's environment with one thread, no styling and no forced offline mode."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))
    }
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", **changes}


@pytest.fixture(scope="session")
def foveate() -> Runner:
    """Run `foveate ARGUMENTS` as a process of its own."""

    def run(
        *arguments: str, stdin: str | None = "", cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "foveate.cli", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=child_environment(**environment),
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def tiny_llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import build_tiny

    return build_tiny("llava", tmp_path_factory.mktemp("models") / "tiny-llava")


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import build_tiny

    return build_tiny("text", tmp_path_factory.mktemp("models") / "tiny-text")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A small picture on disk, named with a space as people name them."""
    path = tmp_path / "my cat.png"
    Image.new("RGB", (40, 30), (200, 30, 30)).save(path)
    return path
