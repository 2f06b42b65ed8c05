"""Replies by content: what was asked with the same words, pixels, parameters, weights and code is not asked again.

One SQLite file. Against a file for each reply: a hundred thousand of them are no burden for the file system, a reply
is there whole or not at all, and several runs may read and write at once (write-ahead log). It must lie on a local
disk, as SQLite's log asks for. Failures are never kept. Owns the file; what a key covers is the model's business
(`contract.Model.key`).
"""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

from foveate.evaluate.contract import EvaluationError, Reply
from foveate.evaluate.run.records import reply_from_row, reply_to_row

# Part of the file's name: another form of rows begins another file.
_FILE = "answers-1.sqlite"
_PATIENCE = 60.0  # seconds to wait for another process that writes


def cache_folder() -> Path:
    """$FOVEATE_CACHE/answers, else the user's cache folder's."""
    named = os.environ.get("FOVEATE_CACHE")
    if named:
        return Path(named) / "answers"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foveate" / "answers"


class AnswersCache:
    """Replies on disk, by key; used from one thread.

    Args:
        folder: where the file lies; `cache_folder()` by default.

    Raises:
        EvaluationError: the folder cannot be written, or the file is damaged.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.path = (cache_folder() if folder is None else folder) / _FILE
        self.hits = self.misses = 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
            self._file.execute("PRAGMA journal_mode = WAL")
            # A power cut may lose the last replies, which are asked again; it never damages the file.
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, reply TEXT NOT NULL)"
            )
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    def get(self, key: str) -> Reply | None:
        """The reply of this key, or None. Its seconds are empty: they were another run's."""
        try:
            row = self._file.execute("SELECT reply FROM answers WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        if row is None:
            self.misses += 1
            return None
        self.hits += 1
        return reply_from_row(json.loads(row[0]))

    def put(self, key: str, reply: Reply) -> None:
        """Keeps a reply; of two under one key the first stays."""
        row = json.dumps(reply_to_row(reply), ensure_ascii=False)
        try:
            self._file.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, row))
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def __len__(self) -> int:
        return int(self._file.execute("SELECT COUNT(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        """Gives the file back."""
        self._file.close()

    def _unusable(self, error: Exception) -> EvaluationError:
        return EvaluationError(
            f"The cache of answers {self.path} cannot be used",
            why=str(error),
            fix="Remove the file, set FOVEATE_CACHE to a folder of yours, or run with --no-cache.",
        )
