"""Whether a server says what it answers with: the `system_fingerprint` beside its model in /v1/models.

`foveate serve` tells one there, of weights, code and defaults; a server that does not is known by its address alone.
Owns asking for it, once a session. Knows no requests for replies.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import httpx2

from foveate.evaluate.endpoints.failures import EndpointError

_TIMEOUT = 10.0  # seconds; a server that is slower to list its models is taken as one that tells nothing


class ServedFingerprint:
    """What the server at an address says of a model; asked for when first needed, from any thread."""

    def __init__(self, base: str, model: str, headers: Mapping[str, str]) -> None:
        self._base, self._model, self._headers = base, model, dict(headers)
        self._lock = threading.Lock()
        self._asked = False
        self._told: str | None = None

    def get(self) -> str | None:
        """The fingerprint, None where the server tells none or cannot be reached. The first answer holds."""
        with self._lock:
            if not self._asked:
                self._told = self._ask()
                self._asked = True
            return self._told

    def check(self, reply: Mapping[str, Any]) -> None:
        """That a reply is by what was asked: replies are kept under the fingerprint that was told first.

        Raises:
            EndpointError: the reply has another one.
        """
        told = reply.get("system_fingerprint")
        if self._told is not None and isinstance(told, str) and told != self._told:
            raise EndpointError(
                "another model",
                f"the server's fingerprint was {self._told} and is {told} now: its weights, code or defaults changed "
                "during the run; begin another run",
            )

    def _ask(self) -> str | None:
        try:
            reply = httpx2.get(f"{self._base}/models", headers=self._headers, timeout=_TIMEOUT)
            listed = reply.json()["data"] if reply.status_code == 200 else []
            cards = [card for card in listed if isinstance(card, dict) and card.get("id") == self._model]
        except (httpx2.HTTPError, ValueError, KeyError, TypeError, RecursionError):
            return None
        told = cards[0].get("system_fingerprint") if cards else None
        return told if isinstance(told, str) and told else None
