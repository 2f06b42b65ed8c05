"""Which servers of this user run on this machine: a small file per server, written when it listens, gone when it ends.

Owns the files' folder and form, and how a file that a killed server left behind is told from one that holds: a server
keeps its file locked as long as it lives. Imports no web framework and no torch, so that `foveate ps` is fast.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: whether a server answers is all there is to go by
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunningServer:
    """What a server's file says.

    Attributes:
        url: where this machine reaches it.
        model: its name in the API.
        pid: its process.
        started: when it began to listen, in seconds since 1970.
    """

    url: str
    model: str
    pid: int
    started: float


def folder() -> Path:
    """Where the files are: the cache folder, the same for a login, a service and a job of one user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foveate" / "servers"


@contextmanager
def listed(url: str, model: str) -> Iterator[Callable[[], None]]:
    """Gives the function that lists this process as a server; it is listed until the block ends.

    A folder that cannot be written costs the listing, not the server.
    """
    kept: list[tuple[int, Path]] = []

    def show() -> None:
        server = RunningServer(url=url, model=model, pid=os.getpid(), started=time.time())
        try:
            kept.append(_write(server))
        except OSError as error:
            _log.warning("foveate ps will not show this server: %s", error)

    try:
        yield show
    finally:
        for descriptor, path in kept:
            path.unlink(missing_ok=True)
            os.close(descriptor)


def _write(server: RunningServer) -> tuple[int, Path]:
    """The file, locked before it gets the name under which it is looked for."""
    target = folder() / f"{server.pid}-{secrets.token_hex(4)}.json"
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = target.with_suffix(".unfinished")
    descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, json.dumps(asdict(server)).encode())
        unfinished.rename(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return descriptor, target


def running_servers() -> list[RunningServer]:
    """Servers whose process lives, oldest first. Files of those that were killed are removed."""
    found = [server for path in sorted(folder().glob("*.json")) if (server := _read(path)) is not None]
    return sorted(found, key=lambda server: server.started)


def _read(path: Path) -> RunningServer | None:
    """None, and no such file any more, where its server is gone or somebody else wrote it."""
    try:
        with path.open("rb") as file:
            if _is_locked(file.fileno()):
                return RunningServer(**json.load(file))
    except FileNotFoundError:  # it ended just now
        return None
    except (ValueError, TypeError):
        _log.warning("%s is no server's file", path)
        return None
    path.unlink(missing_ok=True)
    return None


def _is_locked(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
