"""From a host's name to its addresses, in threads of its own.

Owns the threads: a name server that does not answer must not take those that the rest of the server works in.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from foveate.serve.safety.addresses import Address

# Host and port to addresses in order of preference; empty where there are none.
Resolver = Callable[[str, int], Awaitable[Sequence[Address]]]


class SystemResolver:
    """The machine's own resolver (`getaddrinfo`)."""

    def __init__(self, *, threads: int = 8) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="foveate-resolver")

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        """Its addresses, each once; empty for a name that does not exist."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _lookup, host, port)

    def close(self) -> None:
        """Lets the threads end; one that still waits for a name server ends when that answers."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _lookup(host: str, port: int) -> Sequence[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # gaierror is an OSError; UnicodeError: a label that is no host name
        return ()
    # A scope (fe80::1%eth0) stays in the text, and makes the address one that is never reachable.
    return tuple(dict.fromkeys(ipaddress.ip_address(str(entry[4][0])) for entry in found))
