"""What memory is free on a device now.

Owns where the figure comes from. Knows no caches.
"""

from __future__ import annotations

from pathlib import Path

import torch


def free_bytes(device: torch.device) -> tuple[int, str]:
    """Memory that is free on the device now, and where the figure comes from."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0], "free on the GPU"
    available, source = _memory_available(), "available to processes"
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text(encoding="ascii").strip()) != "max":
        left = int(text) - int(used.read_text(encoding="ascii"))
        if left < available:
            return max(left, 0), "left under this container's limit"
    return available, source


def _memory_available() -> int:
    table = Path("/proc/meminfo")
    if table.exists():
        for line in table.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 4 * 2**30  # not Linux: a cautious guess, and the reason line names it
