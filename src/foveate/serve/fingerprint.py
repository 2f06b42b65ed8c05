"""What a server answers with, in one word: the `system_fingerprint` of OpenAI's API.

Two servers of one fingerprint have the same weights, tokeniser, template, code and libraries, and the same defaults of
a request; so a client may keep a reply by it. Owns what goes into the word. Knows no requests.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from typing import TYPE_CHECKING

from foveate.errors import ModelError
from foveate.models.digest import code_digest, configuration_digest, weights_digest

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel
    from foveate.serve.context import Context

_log = logging.getLogger(__name__)
# Rooms whose code decides what is answered; this one too, as it lays out prompts and ends answers.
ROOMS = ("media", "models", "reduce", "decode", "engine", "serve")
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
        except (OSError, ModelError) as error:
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
        ModelError: the base of an overlay is gone.
    """
    described = model.describe()
    facts = [str(described[name]) for name in _FACTS]
    digests = [weights_digest(model), configuration_digest(model), code_digest(ROOMS)]
    return hashlib.sha256(json.dumps(facts + digests).encode()).hexdigest()
