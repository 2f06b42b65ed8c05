"""Servers as processes: ours, `transformers serve`, vLLM's. Each starts once and is stopped while others are measured.

Owns their commands, the fields that only one of them takes, and their life. A peer that is not installed or does not
start is reported, never an error.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from engine_parts.ledger import say
from engine_parts.workload import Item
from foveate.errors import FoveateError

START_SECONDS = 600  # vLLM takes minutes on a busy machine
KV_BLOCKS = 1024  # of 16 tokens: sixteen requests and more
MAX_SEQUENCES = 32
NOT_INSTALLED = "not installed: sh benchmarks/peers/install.sh {0} FOLDER, then --peer {0}=FOLDER/bin/python"


class ServerError(FoveateError):
    """A server that did not start."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How one server is started and asked.

    Attributes:
        command: from its Python, the checkpoint's folder, number format and port.
        environment: beside ours.
        fields: of a request; the model's name, and what makes an answer exactly as long as the item says. Ends
            are banned, not ignored: that is what all three can do.
    """

    command: Callable[[Path, Path, str, int], list[str]]
    fields: Callable[[Path, Item], dict[str, Any]]
    environment: Mapping[str, str] = field(default_factory=dict)


def _common_fields(folder: Path, item: Item) -> dict[str, Any]:
    return {"model": "bench", "min_tokens": item.output_tokens, "stream_options": {"include_usage": True}}


def _transformers_fields(folder: Path, item: Item) -> dict[str, Any]:
    length = {"min_new_tokens": item.output_tokens, "max_new_tokens": item.output_tokens, "do_sample": False}
    return {"model": str(folder), "generation_config": json.dumps(length)}


KINDS: dict[str, Kind] = {
    "foveate": Kind(
        command=lambda python, folder, dtype, port: [
            str(python), "-m", "foveate.cli", "serve", str(folder), "--port", str(port), "--model-name", "bench",
            "--dtype", dtype, "--max-sequences", str(MAX_SEQUENCES), "--kv-blocks", str(KV_BLOCKS),
        ],
        fields=_common_fields,
    ),
    "transformers": Kind(
        command=lambda python, folder, dtype, port: [
            str(python.parent / "transformers"), "serve", str(folder), "--port", str(port), "--device", "cpu",
            "--dtype", dtype, "--host", "127.0.0.1",
        ],
        fields=_transformers_fields,
    ),
    "vllm": Kind(
        command=lambda python, folder, dtype, port: [
            str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--port", str(port),
            "--served-model-name", "bench", "--dtype", dtype, "--max-num-seqs", str(MAX_SEQUENCES),
            "--max-model-len", "1024", "--enforce-eager", "--host", "127.0.0.1",
        ],
        environment={
            "VLLM_CPU_KVCACHE_SPACE": "2",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_NO_USAGE_STATS": "1",
        },
        fields=_common_fields,
    ),
}  # fmt: skip


def parse_peers(options: Sequence[str]) -> dict[str, Path]:
    """{"vllm": PYTHON} of `--peer vllm=PYTHON`.

    Raises:
        FoveateError: another peer, or no such file.
    """
    pythons = {}
    for option in options:
        name, _, path = option.partition("=")
        if name not in KINDS or name == "foveate" or not Path(path).is_file():
            raise FoveateError(
                f"--peer {option} names no peer",
                why="it must be transformers=PYTHON or vllm=PYTHON with an existing file",
                fix="Install one with: sh benchmarks/peers/install.sh transformers FOLDER",
            )
        pythons[name] = Path(path)
    return pythons


class Server:
    """A running server, asleep until it is measured.

    Raises:
        ServerError: it ended by itself or did not answer in time; its log is named.
    """

    def __init__(self, name: str, folder: Path, dtype: str, threads: int, python: Path | None = None) -> None:
        self.name, self.kind, self._folder = name, KINDS[name], folder
        self.port = _free_port()
        self._log = Path(tempfile.gettempdir()) / f"foveate-benchmark-serve-{name}.log"
        environment = {
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "HF_HUB_OFFLINE": "1",
        }
        began = time.perf_counter()
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                self.kind.command(python or Path(sys.executable), folder, dtype, self.port),
                stdout=log,
                stderr=log,
                start_new_session=True,  # a group of its own: sleeping and ending reach its children too
                env={**os.environ, **environment, **self.kind.environment},
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise
        say(f"{name} started in {time.perf_counter() - began:.1f} s")
        self._signal(signal.SIGSTOP)

    def fields(self, item: Item) -> dict[str, Any]:
        """What only this server is told with a request."""
        return self.kind.fields(self._folder, item)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """It runs in this block, and nowhere else: an idle server may still spin on a core."""
        self._signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._signal(signal.SIGSTOP)

    def processor_seconds(self) -> float:
        """Processor time that it and its children have taken."""
        main = psutil.Process(self._process.pid)
        used = [process.cpu_times() for process in (main, *main.children(recursive=True))]
        return sum(times.user + times.system for times in used)

    def close(self) -> None:
        """Ends it and its children."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + START_SECONDS
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with opener.open(f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
        code = self._process.poll()
        raise ServerError(
            f"The server {self.name} did not start",
            why=f"no answer in {START_SECONDS} s" if code is None else f"it ended with exit code {code}",
            fix=f"See its log: {self._log}",
        )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
