"""`foveate doctor`: what this machine offers, what load() would choose and why, what is installed.

Owns the report. The facts come from `machine`, `inventory` and the models room; nothing is changed.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate import __version__
from foveate.cli.failures import as_dict
from foveate.cli.inventory import CONFIG, cache_folder, embedded_folder, embedded_model
from foveate.cli.machine import cores, cpu_features, dependencies, extras, memory, processor_name
from foveate.cli.terminal import mebibytes


def command(
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Report the machine, the device and dtype that load() would choose and why, versions and extras."""
    report = examine()
    print(as_dict(report) if as_json else "\n".join(lines(report)))


def examine() -> dict[str, Any]:
    """The whole report as plain data; sizes in bytes."""
    usable, total = cores()
    available, memory_total = memory()
    model = embedded_model()
    return {
        "foveate": __version__,
        "python": platform.python_version(),
        "machine": {
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "processor": processor_name(),
            "features": cpu_features(),
            "cores_usable": usable,
            "cores": total,
            "memory_available": available,
            "memory": memory_total,
        },
        "choice": choice(),
        "dependencies": dependencies(),
        "extras": [
            {"name": extra.name, "missing": list(extra.missing), "install": extra.install}
            for extra in extras()
        ],
        "embedded_model": model.as_object() if model else None,
        "cache": str(cache_folder()),
    }


def choice() -> dict[str, Any]:
    """What `load(dtype="auto", device="auto")` would take here, from the function that load itself calls."""
    import torch

    from foveate.models.loading import choose_device, choose_dtype

    device, device_reason = choose_device("auto")
    embedded = _stored(embedded_folder() / CONFIG)
    kinds = {"fovea-nano": embedded, "a bfloat16 checkpoint": {"dtype": "bfloat16"}}
    accelerators = [
        {
            "name": torch.cuda.get_device_name(index),
            "memory": torch.cuda.get_device_properties(index).total_memory,
        }
        for index in range(torch.cuda.device_count())
    ]
    dtypes = {}
    for kind, config in kinds.items():
        dtype, reason = choose_dtype("auto", device, config)
        dtypes[kind] = {"dtype": str(dtype).removeprefix("torch."), "reason": reason}
    return {
        "device": str(device),
        "device_reason": device_reason,
        "dtypes": dtypes,
        "accelerators": accelerators,
        "torch_threads": torch.get_num_threads(),
    }


def _stored(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def lines(report: dict[str, Any]) -> list[str]:
    """The report for people: one fact a line, a column of names."""
    rows = [
        ("foveate", f"{report['foveate']} on Python {report['python']}"),
        *_machine_rows(report["machine"]),
        *_choice_rows(report["choice"]),
        *(
            (name, version or f"missing: pip install {name}")
            for name, version in report["dependencies"].items()
        ),
        *(_extra_row(extra) for extra in report["extras"]),
        _embedded_row(report["embedded_model"]),
        ("model cache", report["cache"]),
    ]
    width = max(len(name) for name, _ in rows) + 2
    return [f"{name.ljust(width)}{value}" for name, value in rows]


def _machine_rows(machine: dict[str, Any]) -> list[tuple[str, str]]:
    features = [name for name, present in machine["features"].items() if present]
    absent = [name for name, present in machine["features"].items() if not present]
    size = "unknown" if machine["memory"] is None else mebibytes(machine["memory"])
    free = (
        "" if machine["memory_available"] is None else f", {mebibytes(machine['memory_available'])} available"
    )
    return [
        ("system", machine["system"]),
        (
            "processor",
            f"{machine['processor']}, {machine['cores_usable']} of {machine['cores']} cores usable",
        ),
        ("features", (", ".join(features) or "none") + (f"; not {', '.join(absent)}" if absent else "")),
        ("memory", size + free),
    ]


def _choice_rows(choice: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("device", f"{choice['device']} ({choice['device_reason']})")]
    rows += [
        ("accelerator", f"{item['name']}, {mebibytes(item['memory'])}") for item in choice["accelerators"]
    ]
    rows += [
        ("dtype", f"{item['dtype']} for {kind} ({item['reason']})") for kind, item in choice["dtypes"].items()
    ]
    return [*rows, ("torch threads", str(choice["torch_threads"]))]


def _extra_row(extra: dict[str, Any]) -> tuple[str, str]:
    name = f"extra {extra['name']}"
    if not extra["missing"]:
        return name, "installed"
    return name, f"lacks {', '.join(extra['missing'])}; to add it: {extra['install']}"


def _embedded_row(model: dict[str, Any] | None) -> tuple[str, str]:
    if model is None:
        return "fovea-nano", f"missing: no weights in {embedded_folder()}"
    return "fovea-nano", f"{mebibytes(model['bytes'])}, sha256 {model['digest'][:16]}…, {model['folder']}"
