"""Measurements kept as they come, so that a run that was broken off goes on where it stopped.

Owns one JSON file of key to measurement under a fingerprint of the settings; other settings begin anew.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Ledger:
    """Measures what is not in the file yet.

    Args:
        settings: all that a measurement depends on; a file of other settings is not read.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path, self._settings, self._prefix = path, dict(settings), ""
        self._rows: dict[str, Any] = {}
        if path.is_file():
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["settings"] == self._settings:
                self._rows = stored["rows"]
                say(f"{len(self._rows)} measurements of an earlier run are taken from {path}")

    def measure(self, key: str, function: Callable[[], Any]) -> Any:
        """What the function returned, now or in an earlier run; must be JSON."""
        key = self._prefix + key
        if key not in self._rows:
            began = time.perf_counter()
            self._rows[key] = function()
            say(f"{key}: {time.perf_counter() - began:.1f} s")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            document = {"settings": self._settings, "rows": self._rows}
            self.path.write_text(json.dumps(document), encoding="utf-8")
        return self._rows[key]

    def under(self, prefix: str) -> Ledger:
        """The same file, with keys that begin with the prefix."""
        part = copy.copy(self)
        part._prefix = f"{prefix}/"
        return part

    def close(self) -> None:
        """Forgets the measurements: their figures are in the result file."""
        self.path.unlink(missing_ok=True)


def say(line: str) -> None:
    """A progress line; standard output is for the result."""
    print(line, file=sys.stderr, flush=True)
