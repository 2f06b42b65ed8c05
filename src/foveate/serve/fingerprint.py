"""What a server answers with, in one word: the `system_fingerprint` of OpenAI's API.

Two servers of one fingerprint have the same weights, tokeniser, template, code and libraries, and the same defaults of
a request; so a client may keep a reply by it. Owns what goes into the word. Knows no requests.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import importlib.metadata
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import foveate

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel
    from foveate.serve.context import Context

_log = logging.getLogger(__name__)
# Rooms whose code decides what is answered; this one too, as it lays out prompts and ends answers.
ROOMS = ("media", "models", "reduce", "decode", "engine", "serve")
LIBRARIES = ("torch", "transformers", "numpy", "pillow")
# What a checkpoint's loader may read: weights, configurations, tokeniser, chat template.
_READ = (".safetensors", ".json", ".jinja", ".model", ".txt")
_FACTS = ("dtype", "device", "quantisation", "context_length")


class ModelDigest:
    """Of the files that a model was loaded from and of the code that runs it; worked out once, in a thread."""

    def __init__(self, model: VisionLanguageModel) -> None:
        self._model = model
        self._task: asyncio.Task[str | None] | None = None

    def begin(self) -> asyncio.Task[str | None]:
        """Begins, once. Weights are read at the pace of SHA-256, seconds for a large model."""
        if self._task is None:
            self._task = asyncio.create_task(asyncio.to_thread(self._make), name="foveate fingerprint")
        return self._task

    async def get(self) -> str | None:
        """The digest; None where the model's files are gone."""
        return await asyncio.shield(self.begin())  # a client that leaves does not end it for the others

    def _make(self) -> str | None:
        try:
            return model_digest(self._model)
        except OSError as error:
            _log.warning("replies have no system_fingerprint: the model's files cannot be read (%s)", error)
            return None


async def fingerprint_of(here: Context) -> str | None:
    """The server's fingerprint; None where the model's files cannot be read any more."""
    digest = await here.front.digest.get()
    if digest is None:
        return None
    settings = here.settings
    facts = [digest, settings.visual_budget, settings.reducer, settings.output_watch]
    return "fv_" + hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def model_digest(model: VisionLanguageModel) -> str:
    """SHA-256 in hex of the checkpoint's files, how they are held, and the code.

    Raises:
        OSError: a file cannot be read.
    """
    described = model.describe()
    digest = hashlib.sha256(json.dumps([str(described[name]) for name in _FACTS]).encode())
    digest.update(_code_digest().encode())
    for file in sorted(model.folder.iterdir()):
        if file.suffix in _READ and file.is_file():
            _add(digest, file.name, file)
    return digest.hexdigest()


@functools.cache
def _code_digest() -> str:
    """The files are read and not the commit: a checkout with changes differs from one without."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    digest = hashlib.sha256(json.dumps(versions, sort_keys=True).encode())
    root = Path(foveate.__file__).parent
    for room in ROOMS:
        for file in sorted((root / room).rglob("*")):
            if file.suffix in (".py", ".c"):
                _add(digest, file.relative_to(root).as_posix(), file)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, name: str, file: Path) -> None:
    """Name and size first, so that no two sets of files give the same bytes."""
    digest.update(f"\0{name}\0{file.stat().st_size}\0".encode())
    with file.open("rb") as content:
        while piece := content.read(1 << 24):
            digest.update(piece)
