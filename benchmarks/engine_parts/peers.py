"""Other engines, each a program in a Python of its own that stays up and answers request files.

Owns starting, asking and ending them. A peer that is not installed is reported, never an error.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine_parts.ledger import say
from engine_parts.workload import Item, save
from foveate.errors import FoveateError

SCRIPTS = Path(__file__).parents[1] / "peers"
PROGRAMS = {"vllm": "vllm_cpu.py", "openvino": "openvino_genai_cpu.py"}
NOT_INSTALLED = "not installed: sh benchmarks/peers/install.sh {0} FOLDER, then --peer {0}=FOLDER/bin/python"


class PeerError(FoveateError):
    """A peer that was started and came to an end by itself."""


def parse(options: Sequence[str]) -> dict[str, Path]:
    """{"vllm": PYTHON} of `--peer vllm=PYTHON`.

    Raises:
        FoveateError: another peer, or no such file.
    """
    pythons = {}
    for option in options:
        name, _, path = option.partition("=")
        if name not in PROGRAMS or not Path(path).is_file():
            raise FoveateError(
                f"--peer {option} names no peer",
                why=f"it must be NAME=PYTHON with a name of {', '.join(PROGRAMS)} and an existing file",
                fix="Install one with: sh benchmarks/peers/install.sh vllm FOLDER",
            )
        pythons[name] = Path(path)
    return pythons


def export_for_openvino(python: Path, checkpoint: Path) -> Path:
    """The checkpoint in OpenVINO's own format, made once by its exporter (about 2 minutes).

    Raises:
        subprocess.CalledProcessError: the exporter failed; its output was shown.
    """
    target = checkpoint.with_name(checkpoint.name + "-openvino")
    if not (target / "openvino_language_model.bin").is_file():
        say(f"exporting {checkpoint.name} for OpenVINO")
        command = [str(python.parent / "optimum-cli"), "export", "openvino", "--model", str(checkpoint)]
        command += ["--task", "image-text-to-text", "--weight-format", "fp32", str(target)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return target


class Peer:
    """A running peer. Its log goes to a file that is named when it fails."""

    def __init__(self, name: str, python: Path, folder: Path, dtype: str, threads: int) -> None:
        self.name = name
        self._folder = tempfile.TemporaryDirectory(prefix=f"foveate-{name}-")
        self._log = Path(tempfile.gettempdir()) / f"foveate-benchmark-{name}.log"
        command = [str(python), str(SCRIPTS / PROGRAMS[name]), str(folder), dtype, str(threads)]
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
            )
        self.about = self._read("READY ")
        say(f"{name} {self.about['version']} started in {self.about['start_seconds']} s")

    def serve(self, items: Sequence[Item], prompts: Sequence[str]) -> dict[str, Any]:
        """Its answers and seconds, as measured in its own process."""
        path = save(items, prompts, Path(self._folder.name))
        assert self._process.stdin is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        return self._read("RESULT ")

    def close(self) -> None:
        """Ends the process and removes the request files."""
        assert self._process.stdin is not None
        self._process.stdin.close()  # the end of its input is the end of its work
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._folder.cleanup()

    def _read(self, mark: str) -> dict[str, Any]:
        """The next line that begins with the mark; whatever else the libraries print is passed over."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(mark):
                return dict(json.loads(line[len(mark) :]))
        raise PeerError(
            f"{self.name} ended without an answer",
            why=f"exit code {self._process.wait()}; its log is {self._log}",
            fix="Run its program in benchmarks/peers by hand.",
        )
