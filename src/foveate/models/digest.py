"""What tells one model and one code from another: digests of weights, of what lies beside them, and of sources.

Owns how the three are worked out; results, kept answers, draft heads and a server's fingerprint compare them. All are
of content: neither a folder's name nor a file's date counts. Knows no results and imports no torch.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import foveate
from foveate.models.checkpoint_files import HUB_FILES, OVERLAY, resolve

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

# Below the code, these decide an answer: the same sources on others of them are another code.
LIBRARIES = ("foveate", "torch", "transformers", "numpy", "pillow")
_PIECE = 1 << 24  # bytes


def weights_digest(model: VisionLanguageModel | Path) -> str:
    """SHA-256 in hex of the bytes of a checkpoint's safetensors, in the order of their names.

    For one file it is what `sha256sum` prints; of a checkpoint over another (`models.overlay`) the base's come first.
    Files are read at the pace of SHA-256: fovea-nano takes 20 ms, a large model seconds.

    Args:
        model: a loaded model, or a checkpoint's folder.

    Raises:
        OSError: a file cannot be read, or the folder holds none (it was deleted since the model was loaded).
        ModelError: the base of an overlay is gone.
    """
    digest = hashlib.sha256()
    for folder in _folders(model):
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise FileNotFoundError(f"{folder} has no safetensors")
        for file in files:
            with file.open("rb") as content:
                while piece := content.read(_PIECE):
                    digest.update(piece)
    return digest.hexdigest()


def configuration_digest(model: VisionLanguageModel | Path) -> str:
    """SHA-256 in hex of what a checkpoint has beside its weights: configurations, tokeniser, chat template.

    All that a loader may read is in it, and with that some files that change no answer; too much asks a model again,
    too little would keep the answers of another.

    Args:
        model: a loaded model, or a checkpoint's folder.

    Raises:
        OSError: a file cannot be read.
        ModelError: the base of an overlay is gone.
    """
    digest = hashlib.sha256()
    for folder in _folders(model):
        files = {file for pattern in HUB_FILES for file in folder.glob(pattern) if file.is_file()}
        for file in sorted(file for file in files if file.suffix != ".safetensors"):
            _add(digest, file.name, file)
    return digest.hexdigest()


def _folders(model: VisionLanguageModel | Path) -> list[Path]:
    """Where a checkpoint's files lie: its own folder, behind its base's where it is an overlay."""
    folder = model if isinstance(model, Path) else model.folder
    if not (folder / OVERLAY).is_file():
        return [folder]
    from foveate.models.overlay import Overlay  # it needs this module

    overlay = Overlay.of(folder)
    assert overlay is not None, "its card is there"
    return [resolve(overlay.base)[0], folder]


@functools.cache
def code_digest(rooms: tuple[str, ...]) -> str:
    """SHA-256 in hex of the sources of these rooms ("engine", "models", …), of Python and the libraries below.

    The files are read and not the commit: a checkout with changes differs from one without, and a commit that touches
    other rooms leaves the digest. Worked out once in a process.
    """
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    digest = hashlib.sha256(json.dumps([platform.python_version(), versions], sort_keys=True).encode())
    root = Path(foveate.__file__).parent
    for room in rooms:
        for file in sorted((root / room).rglob("*")):
            if file.suffix in (".py", ".c"):
                _add(digest, file.relative_to(root).as_posix(), file)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, name: str, file: Path) -> None:
    """Name and size first, so that no two sets of files give the same bytes."""
    content = file.read_bytes()
    digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
