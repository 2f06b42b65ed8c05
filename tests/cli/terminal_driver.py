"""Runs programs as a person would: a plain environment, and a real pseudo-terminal to type, wait and press Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def child_environment(**changes: str) -> dict[str, str]:
    """This process's environment with one thread, no styling and no forced offline mode."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))
    }
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", **changes}


def _as_in_a_terminal() -> None:
    """Makes standard input the controlling terminal; background jobs of a shell start with Ctrl-C ignored."""
    os.close(os.open(os.ttyname(0), os.O_RDWR))
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A child process whose standard streams are one terminal; use as a context manager.

    `text` is everything shown so far, without control sequences.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], folder: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**environment, "TERM": "xterm"},
            start_new_session=True,
            preexec_fn=_as_in_a_terminal,
        )
        os.close(slave)
        self.text = ""
        self._seen = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)

    def type(self, line: str) -> None:
        """Write a line and press return."""
        os.write(self._master, f"{line}\n".encode())

    def press(self, key: bytes) -> None:
        """Send a control character: b"\\x03" is Ctrl-C, b"\\x04" is Ctrl-D."""
        os.write(self._master, key)

    def expect(self, words: str, *, within: float = 30) -> str:
        """Wait until `words` are shown after what was expected before; returns the text up to their end."""
        deadline = time.monotonic() + within
        while True:
            found = self.text.find(words, self._seen)
            if found >= 0:
                start, self._seen = self._seen, found + len(words)
                return self.text[start : self._seen]
            assert time.monotonic() < deadline, f"no {words!r} in {self.text[self._seen :]!r}"
            assert self._read(), f"ended without {words!r}: {self.text[self._seen :]!r}"

    def leave(self, within: float = 30) -> int:
        """Wait for the end of the program and return its exit code."""
        while self._read():
            pass
        return self.process.wait(timeout=within)

    def _read(self) -> bool:
        """Take in what is there; False when the program has closed the terminal."""
        ready, _, _ = select.select([self._master], [], [], 0.5)
        if not ready:
            return self.process.poll() is None
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux says so when the last writer is gone
            return False
        self.text += CONTROL.sub("", data.decode(errors="replace"))
        return bool(data)
