"""Builds our C kernels on the machine that runs them, once, and keeps the result.

Owns the compiler call, the cache of built libraries and its key. Knows no kernel. A machine without a compiler
is no error: whoever has a kernel says so and leaves the work to torch.

Environment: CC names the compiler; FOVEATE_KERNEL_CACHE the folder of built libraries; FOVEATE_NO_COMPILER=1
builds nothing.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

_log = logging.getLogger(__name__)
# Sums may be reordered, as every BLAS does; infinities and NaN keep their meaning. Not -ffast-math: with it gcc links
# code into the library that makes the whole process round subnormal numbers to zero from the moment it is loaded.
_REORDERED = (
    "-fassociative-math",
    "-freciprocal-math",
    "-fno-signed-zeros",
    "-fno-trapping-math",
    "-fno-math-errno",
)
_FLAGS = ("-std=c11", "-O3", "-march=native", *_REORDERED, "-fPIC", "-shared")


class CompilerError(Exception):
    """No library could be built; the text says why."""


@functools.cache
def compile_kernel(source: Path, defines: Sequence[str] = ()) -> ctypes.CDLL:
    """The library built from a C file of ours.

    Raises:
        CompilerError: no compiler, or it refused.
    """
    if os.environ.get("FOVEATE_NO_COMPILER"):
        raise CompilerError("FOVEATE_NO_COMPILER is set")
    compiler = os.environ.get("CC") or next(
        (name for name in ("cc", "gcc", "clang") if shutil.which(name)), ""
    )
    if not compiler:
        raise CompilerError("there is no C compiler here (cc, gcc or clang)")
    command = [compiler, *_FLAGS, *(f"-D{name}" for name in defines), str(source), *_threading(), "-lm"]
    library = _cache_folder() / f"{source.stem}-{_digest(source, command)}.so"
    if not library.exists():
        _build(command, library)
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise CompilerError(f"the built kernel does not load: {error}") from error


def _threading() -> list[str]:
    """OpenMP through the very library torch runs on: two pools of threads would fight for the cores."""
    if platform.system() == "Darwin":
        return []  # Apple's compiler has no OpenMP; one thread reads a laptop's cache fast enough
    folder = Path(torch.__file__).parent
    own = [*folder.glob("lib/libgomp*.so*"), *folder.parent.glob("torch.libs/libgomp*.so*")]
    return ["-fopenmp", *(str(path) for path in own[:1])]


def _digest(source: Path, command: Sequence[str]) -> str:
    """Everything the built code depends on; -march=native makes the processor part of it."""
    parts = [source.read_text(), " ".join(command), torch.__version__, platform.machine(), _processor()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    return "\n".join(
        line for line in text.split("\n\n")[0].splitlines() if line.startswith(("model name", "flags"))
    )


def _cache_folder() -> Path:
    named = os.environ.get("FOVEATE_KERNEL_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foveate" / "kernels"


def _build(command: Sequence[str], library: Path) -> None:
    """Builds beside its final place and moves it there, so that two processes may build at once."""
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            built = Path(folder) / library.name
            done = subprocess.run(
                [*command, "-o", str(built)], capture_output=True, text=True, timeout=120, check=False
            )
            if done.returncode:
                lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
                raise CompilerError(f"{command[0]} failed: {lines[0]}")
            built.replace(library)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompilerError(f"{command[0]} could not build the kernel: {error}") from error
    _log.info("built %s", library)
