"""What tells models and code apart: by content, and by all of it that decides an answer."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

import foveate
from foveate.models.digest import code_digest, configuration_digest, weights_digest

NANO = Path(foveate.__file__).parent / "assets" / "fovea-nano"
ROOMS = ("engine", "media")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return Path(shutil.copytree(NANO, tmp_path / "nano"))


def test_the_weights_of_committed_results_keep_their_name():
    committed = json.loads((NANO / "evaluation.json").read_text())["model"]["weights_sha256"]
    assert weights_digest(NANO) == committed
    assert committed == hashlib.sha256((NANO / "model.safetensors").read_bytes()).hexdigest()


def test_weights_are_told_apart_by_content_alone(checkpoint: Path):
    assert weights_digest(checkpoint) == weights_digest(NANO)
    (checkpoint / "config.json").write_text("{}")
    assert weights_digest(checkpoint) == weights_digest(NANO)
    with (checkpoint / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        last = weights.read(1)[0]
        weights.seek(-1, 2)
        weights.write(bytes([last ^ 1]))
    assert weights_digest(checkpoint) != weights_digest(NANO)


def test_several_files_count_in_the_order_of_their_names(tmp_path: Path):
    for name, content in (("b.safetensors", b"2"), ("a.safetensors", b"1")):
        (tmp_path / name).write_bytes(content)
    assert weights_digest(tmp_path) == hashlib.sha256(b"12").hexdigest()


def test_weights_that_are_gone_have_no_digest(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no safetensors"):
        weights_digest(tmp_path)


def test_a_loaded_model_is_named_like_its_folder():
    from foveate.models import load

    model = load()
    assert weights_digest(model) == weights_digest(NANO)
    assert configuration_digest(model) == configuration_digest(NANO)


def test_any_file_that_a_loader_reads_changes_the_configuration(checkpoint: Path):
    digests = [configuration_digest(checkpoint)]
    for name in (
        "config.json",
        "generation_config.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "merges.txt",
    ):
        file = checkpoint / name
        file.write_text((file.read_text() if file.exists() else "") + " ")
        digests.append(configuration_digest(checkpoint))
    assert len(set(digests)) == 6
    (checkpoint / "notes.md").write_text("of no matter")
    assert configuration_digest(checkpoint) == digests[-1]


def test_the_code_is_told_apart_by_the_sources_of_its_rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for room in (*ROOMS, "cli"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "a.py").write_text("1")
    monkeypatch.setattr(foveate, "__file__", str(tmp_path / "__init__.py"))
    digests = []
    for changed in (None, "cli/b.py", "engine/b.py", "media/a.py"):
        if changed:
            (tmp_path / changed).write_text("2")
        code_digest.cache_clear()
        digests.append(code_digest(ROOMS))
    code_digest.cache_clear()
    assert digests[0] == digests[1] and len(set(digests)) == 3


def test_a_checkpoint_over_another_is_told_by_both(checkpoint: Path, tmp_path: Path):
    import torch

    from foveate.models.overlay import write

    name = "model.language_model.layers.2.mlp.up_proj.weight"
    over = [
        write(
            tmp_path / str(value),
            base=str(base),
            base_folder=base,
            tensors={name: torch.full((512, 256), value)},
        )
        for base, value in ((checkpoint, 0.0), (checkpoint, 1.0), (NANO, 2.0))
    ]
    assert len({weights_digest(folder) for folder in (NANO, *over)}) == 4
    before = [configuration_digest(folder) for folder in over]
    with (checkpoint / "generation_config.json").open("a") as out:
        out.write("\n")
    after = [configuration_digest(folder) for folder in over]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, False, True]
