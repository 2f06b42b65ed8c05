"""Where numbers come from: the commit, versions and weights behind a result, and files written whole or not at all.

Shared by everything that records a measurement. Knows no task; what it writes holds no names or paths of a machine.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import foveate
from foveate.models.checkpoint_files import HUB_FILES

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
    digest = hashlib.sha256()
    for file in sorted(model.folder.glob("*.safetensors")):
        with file.open("rb") as weights:
            while piece := weights.read(1 << 24):
                digest.update(piece)
    facts = {name: value for name, value in model.describe().items() if name not in ("weights", "ref")}
    return {"name": model.folder.name, **facts, "weights_sha256": digest.hexdigest()}


def configuration_digest(folder: Path) -> str:
    """SHA-256 in hex of what a checkpoint has beside its weights: configurations, tokeniser, chat template.

    All that a loader may read is in it, and with that some files that change no answer; too much asks a model again,
    too little would keep the answers of another.
    """
    digest = hashlib.sha256()
    files = {file for pattern in HUB_FILES for file in folder.glob(pattern) if file.suffix != ".safetensors"}
    for file in sorted(files):
        content = file.read_bytes()
        digest.update(f"\0{file.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Whole or not at all: a stopped run never leaves half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
