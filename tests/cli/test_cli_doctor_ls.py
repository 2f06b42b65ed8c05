"""`foveate doctor` and `foveate ls`: true, complete, and readable by machines."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from foveate import __version__
from foveate.cli import doctor, inventory, machine
from foveate.cli.main import app
from foveate.models.registry import supported_families

COMMIT_A, COMMIT_B = "a" * 40, "b" * 40


def add_to_cache(cache: Path, name: str, config: dict[str, Any] | None, *commits: str) -> None:
    """A model in the layout of the Hugging Face cache: snapshots/<commit>/ below models--<org>--<name>/."""
    repo = cache / f"models--{name.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commits[0])
    for commit in commits:
        snapshot = repo / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (repo / "blobs").mkdir(exist_ok=True)
        if config is not None:
            blob = repo / "blobs" / f"config-{commit}"
            blob.write_text(json.dumps(config))
            (snapshot / "config.json").symlink_to(os.path.relpath(blob, snapshot))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(inventory, "cache_folder", lambda: folder)
    monkeypatch.setattr("foveate.cli.ls.cache_folder", lambda: folder)
    add_to_cache(folder, "org/seeing", {"model_type": "llava"}, COMMIT_A)
    add_to_cache(folder, "org/twice", {"model_type": "llava"}, COMMIT_A, COMMIT_B)
    add_to_cache(folder, "org/strange", {"model_type": "flamingo"}, COMMIT_A)
    add_to_cache(folder, "org/not-a-model", None, COMMIT_A)
    return folder


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_ls_tells_what_can_be_loaded_and_what_cannot(cache: Path) -> None:
    document = json.loads(run("ls", "--json"))
    cached = {model["ref"]: model for model in document["models"] if model["origin"] == "cache"}
    assert set(cached) == {"org/seeing", f"org/twice@{COMMIT_A}", f"org/twice@{COMMIT_B}"}
    assert cached["org/seeing"]["family"] == "llava"
    assert cached["org/seeing"]["bytes"] == len('{"model_type": "llava"}')
    assert [model["ref"] for model in document["unsupported"]] == ["org/strange"]
    assert "org/seeing" in run("ls")
    notes = CliRunner().invoke(app, ["ls"]).stderr
    assert "1 model more in the cache cannot be loaded: flamingo" in notes


def test_ls_without_a_cache_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(inventory, "cache_folder", lambda: tmp_path / "absent")
    assert inventory.cached_models() == []


def test_the_cache_honours_hf_home(foveate: Callable[..., Any], tmp_path: Path) -> None:
    add_to_cache(tmp_path / "hub", "org/seeing", {"model_type": "llava"}, COMMIT_A)
    document = json.loads(foveate("ls", "--json", HF_HOME=str(tmp_path)).stdout)
    assert document["cache"] == str(tmp_path / "hub")
    assert "org/seeing" in [model["ref"] for model in document["models"]]


def test_ls_families_shows_every_family() -> None:
    infos = supported_families()
    listed = json.loads(run("ls", "--families", "--json"))["families"]
    assert [entry["name"] for entry in listed] == [info.name for info in infos]
    table = run("ls", "--families")
    assert all(info.name in table and info.paper in table for info in infos)


@pytest.mark.parametrize("content", ["not json", "[1, 2]", '{"model_type": 3}', "{}"])
def test_a_broken_configuration_names_no_family(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert inventory.model_type_in(tmp_path) == ""


def test_the_embedded_model_is_told_with_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "embedded_folder", lambda *_: tmp_path)
    assert inventory.embedded_model() is None
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    assert inventory.embedded_model() is None  # a configuration alone is no model
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    model = inventory.embedded_model()
    assert model is not None
    assert (model.family, model.bytes) == ("llava", 7)
    assert model.digest == hashlib.sha256(b"weights").hexdigest()


def test_doctor_reports_the_choice_that_load_makes() -> None:
    import torch

    from foveate.models.loading import choose_device

    report = json.loads(run("doctor", "--json"))
    device, reason = choose_device("auto")
    assert (report["choice"]["device"], report["choice"]["device_reason"]) == (str(device), reason)
    assert report["foveate"] == __version__
    assert report["python"] == platform.python_version()
    assert report["dependencies"]["torch"] == torch.__version__
    assert report["machine"]["cores"] >= report["machine"]["cores_usable"] >= 1
    assert {extra["name"] for extra in report["extras"]} >= {"video", "train", "serve"}


def test_doctor_for_people_has_a_fact_a_line() -> None:
    text = run("doctor")
    for word in ("processor", "memory", "device", "dtype", "torch", "fovea-nano", "model cache"):
        assert any(line.startswith(word) for line in text.splitlines()), (word, text)


def test_a_missing_extra_shows_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_version", lambda name: None if name == "av" else "1.0")
    rows = [doctor._extra_row({**vars(extra), "install": extra.install}) for extra in machine.extras()]
    assert ("extra video", "lacks av; to add it: pip install 'foveate[video]'") in rows
    assert ("extra train", "installed") in rows


X86 = "processor : 0\nmodel name\t: Some CPU @ 3 GHz\nflags\t\t: fpu avx2 avx512f amx_tile amx_bf16\n"


def test_cpu_features_come_from_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: X86)
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    assert machine.processor_name() == "Some CPU @ 3 GHz"
    assert machine.cpu_features() == {
        "AVX2": True,
        "AVX-512": True,
        "AVX-512 BF16": False,
        "AVX-512 VNNI": False,
        "AMX BF16": True,
        "AMX INT8": False,
    }


def test_a_container_limit_counts_as_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": "MemTotal:       8192 kB\nMemFree: 1 kB\nMemAvailable:   4096 kB\n",
        "/sys/fs/cgroup/memory.max": str(3 * 2**20),
        "/sys/fs/cgroup/memory.current": str(2**20),
    }
    monkeypatch.setattr(machine, "_read", lambda path: files.get(path, ""))
    assert machine.memory() == (2 * 2**20, 3 * 2**20)
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert machine.memory() == (4 * 2**20, 8 * 2**20)
