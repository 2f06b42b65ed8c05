"""Where numbers come from: the commit, versions and weights behind a result, and files written whole or not at all.

Shared by everything that records a measurement. Knows no task; what it writes holds no names or paths of a machine.
"""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import foveate
from foveate.models.digest import weights_digest

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

VERSIONED = ("foveate", "torch", "transformers", "numpy")


def commit() -> str:
    """The checkout's commit, with "and changes" where tracked code differs from it; "unknown" outside a checkout."""
    here = Path(foveate.__file__).parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    head = git("rev-parse", "--short", "HEAD")
    if head is None:
        return "unknown"
    return f"{head} and changes" if git("status", "--porcelain", "--untracked-files=no", "--", ".") else head


def versions() -> dict[str, str]:
    """Python and the packages that decide what comes out."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in VERSIONED},
    }


def describe_model(model: VisionLanguageModel) -> dict[str, Any]:
    """What was measured, without paths of this machine; the weights by their SHA-256."""
    facts = {name: value for name, value in model.describe().items() if name not in ("weights", "ref")}
    return {"name": model.folder.name, **facts, "weights_sha256": weights_digest(model)}


def write_atomically(path: Path, text: str) -> None:
    """Whole or not at all: a stopped run never leaves half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
