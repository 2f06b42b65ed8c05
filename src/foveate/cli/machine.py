"""Facts about this machine and this installation, each read from its first-hand source.

No torch here: `doctor` adds what only torch can tell. A fact that cannot be read is None or empty, never
guessed.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Instruction sets that decide how fast matrix products and 16-bit numbers are; names as /proc/cpuinfo writes
# them.
CPU_FEATURES = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "AVX-512 BF16": ("avx512_bf16",),
    "AVX-512 VNNI": ("avx512_vnni",),
    "AMX BF16": ("amx_tile", "amx_bf16"),
    "AMX INT8": ("amx_tile", "amx_int8"),
    "NEON": ("asimd",),
    "SVE": ("sve",),
    "BF16 (Arm)": ("bf16",),
}
ARM_ONLY = frozenset({"NEON", "SVE", "BF16 (Arm)"})


@dataclass(frozen=True, kw_only=True)
class Extra:
    """An optional group of dependencies: its packages, and those among them that are missing."""

    name: str
    packages: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def install(self) -> str:
        """The exact line that installs it."""
        return f"pip install 'foveate[{self.name}]'"


def processor_name() -> str:
    """The processor's marketing name where the system tells it."""
    found = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    if found:
        return found.group(1).strip()
    if platform.system() == "Darwin":
        return _sysctl("machdep.cpu.brand_string")
    return platform.processor() or platform.machine()


def cpu_features() -> dict[str, bool]:
    """Which instruction sets that matter this processor has; only those its architecture could have."""
    text = _read("/proc/cpuinfo")
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = set(found.group(1).split()) if found else set()
    arm = platform.machine().lower() in ("aarch64", "arm64")
    if not flags and platform.system() == "Darwin":
        flags = {"asimd"} if arm else set(_sysctl("machdep.cpu.leaf7_features").lower().split())
    return {name: set(needed) <= flags for name, needed in CPU_FEATURES.items() if (name in ARM_ONLY) == arm}


def cores() -> tuple[int, int]:
    """(cores this process may use, cores of the machine)."""
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    return usable, total


def facts() -> dict[str, Any]:
    """What numbers are measured on, without names or paths, for result files."""
    features = [name for name, there in cpu_features().items() if there]
    return {"processor": processor_name(), "cores": cores()[0], "features": " ".join(features)}


def memory() -> tuple[int | None, int | None]:
    """(available, total) bytes; a container's limit counts as the total where it is lower."""
    info = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE))
    if not info:
        total = int(_sysctl("hw.memsize") or 0) if platform.system() == "Darwin" else 0
        return None, total or None
    available, total = int(info["MemAvailable"]) * 1024, int(info["MemTotal"]) * 1024
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    if limit.isdigit() and int(limit) < total:
        used = _read("/sys/fs/cgroup/memory.current").strip()
        total = int(limit)
        available = min(available, total - int(used or 0))
    return available, total


def dependencies() -> dict[str, str | None]:
    """Installed version of every runtime dependency, None where it is missing."""
    return {name: _version(name) for name, extra in _requirements() if extra is None}


def extras() -> list[Extra]:
    """The optional groups, in the order the package declares them."""
    groups: dict[str, list[str]] = {}
    for name, extra in _requirements():
        if extra is not None:
            groups.setdefault(extra, []).append(name)
    return [
        Extra(
            name=extra,
            packages=tuple(names),
            missing=tuple(name for name in names if _version(name) is None),
        )
        for extra, names in groups.items()
    ]


def _requirements() -> list[tuple[str, str | None]]:
    """(distribution, extra or None) of everything the package's own metadata names."""
    pairs = []
    for line in importlib.metadata.requires("foveate") or []:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"""extra\s*==\s*['"]([^'"]+)""", line)
        if name:
            pairs.append((name.group(), extra.group(1) if extra else None))
    return pairs


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _sysctl(key: str) -> str:
    try:
        done = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
