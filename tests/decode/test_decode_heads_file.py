"""Heads on disk: what is written comes back, and all that cannot be right is refused with a way out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

import foveate
from foveate.decode.drafts.base import DraftError
from foveate.decode.drafts.opening import open_draft
from foveate.decode.heads.config import CompressorConfig, HeadConfig
from foveate.decode.heads.draft import HeadDraft
from foveate.decode.heads.file import CONFIG, WEIGHTS, is_head, load_head, save_head, shipped_head
from foveate.decode.heads.model import DraftHead
from foveate.models import load


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(
        tiny.build_tiny("llava", tmp_path_factory.mktemp("target") / "llava"), device="cpu", dtype="float32"
    )


def head_for(target: Any, **fields: Any) -> DraftHead:
    return DraftHead(HeadConfig.for_target(target, **fields))


@pytest.fixture
def saved(target: Any, tmp_path: Path) -> Path:
    save_head(tmp_path / "head", head_for(target), target)
    return tmp_path / "head"


@pytest.mark.parametrize("kind", ["eagle2", "eagle3"])
@pytest.mark.parametrize("mode", [None, "vispec:2", "select"])
def test_a_head_comes_back(kind: str, mode: str | None, target: Any, tmp_path: Path) -> None:
    compressor = None if mode is None else CompressorConfig.parse(mode)
    head = head_for(target, kind=kind, compressor=compressor, vocabulary=50)
    head.set_vocabulary(range(3, 103, 2))
    save_head(tmp_path, head, target, dtype=torch.float32)
    again = load_head(tmp_path, target)
    assert again.config == head.config and not again.training
    for name, value in head.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert not any("embed_tokens" in name or "lm_head" in name for name in load_file(tmp_path / WEIGHTS))


def test_a_head_is_opened_by_its_folder(saved: Path, target: Any) -> None:
    draft = open_draft(str(saved), target)
    assert isinstance(draft, HeadDraft) and "eagle2 head" in draft.describe()
    assert is_head(saved) and not is_head(target.folder) and not is_head(saved / "nowhere")


def test_a_reduced_vocabulary_reads_rows_of_the_targets_output(target: Any) -> None:
    head = head_for(target, vocabulary=20).eval()
    head.set_vocabulary(range(5, 65, 3))
    states = torch.randn(4, head.config.hidden_size)
    with torch.no_grad():
        want = head.logits(states, target.head)
        assert torch.allclose(HeadDraft(head, target)._logits(states), want, atol=1e-4)


def test_another_target_is_refused_by_name(saved: Path, target: Any, tmp_path: Path) -> None:
    """Both names, both digests, and the command that makes a head for this one."""
    other = load(tiny.build_tiny("llava", tmp_path / "another", seed=1), device="cpu", dtype="float32")
    described = json.loads((saved / CONFIG).read_text())["target"]
    assert described["name"] == "llava" and str(target.folder.parent) not in json.dumps(described)
    with pytest.raises(DraftError) as refused:
        open_draft(str(saved), other)
    text = str(refused.value)
    assert "not trained for another" in text and "foveate train draft another" in text
    assert "for llava" in text and described["weights_sha256"][:12] in text


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    described = json.loads((folder / CONFIG).read_text())
    change(described)
    (folder / CONFIG).write_text(json.dumps(described))


EDITS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "another key": (lambda all_: all_.update(targets={}), "unknown key 'targets'.*Did you mean 'target'"),
    "no target": (lambda all_: all_.pop("target"), "does not say which target"),
    "another setting": (lambda all_: all_["draft_head"].update(hidden=1), "no setting 'hidden'"),
    "a setting less": (lambda all_: all_["draft_head"].pop("head_dim"), "lacks head_dim"),
    "a setting of another type": (
        lambda all_: all_["draft_head"].update(head_dim="12"),
        "head_dim .* is '12'",
    ),
    "a compressor that is a word": (
        lambda all_: all_["draft_head"].update(compressor="pool"),
        "must be a mapping",
    ),
    "a compressor's setting": (
        lambda all_: all_["draft_head"].update(compressor={"rate": 1}),
        "no setting 'rate'",
    ),
    "another width": (
        lambda all_: all_["draft_head"].update(hidden_size=64),
        "it is 64 wide and the target 48",
    ),
    "a layer that is not": (
        lambda all_: all_["draft_head"].update(kind="eagle3", taps=[0, 3]),
        "the target has 0 to 2",
    ),
    "a layer that is a word": (lambda all_: all_["draft_head"].update(taps=["last"]), "numbers of layers"),
    "more tokens": (lambda all_: all_["draft_head"].update(vocabulary=9999), "guesses 9999 tokens"),
    "other shapes": (lambda all_: all_["draft_head"].update(intermediate_size=7), "has the shape .* where"),
    "no compressor's weights": (
        lambda all_: all_["draft_head"].update(visual="compressed", compressor={"mode": "vispec"}),
        r"compressor\.resampler\.keys_values\.weight has the shape none",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_configurations_that_do_not_fit(name: str, saved: Path, target: Any) -> None:
    change, said = EDITS[name]
    edit(saved, change)
    with pytest.raises(DraftError, match=said):
        load_head(saved, target)


def test_files_that_are_missing_or_cut(saved: Path, target: Any) -> None:
    whole = (saved / WEIGHTS).read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"x" * 64):
        (saved / WEIGHTS).write_bytes(content)
        with pytest.raises(DraftError, match=r"cannot be read.*(\n.*)*it may be cut"):
            load_head(saved, target)
    (saved / WEIGHTS).unlink()
    with pytest.raises(DraftError, match=r"has no model\.safetensors"):
        load_head(saved, target)
    (saved / CONFIG).write_text('{"draft_head": ')
    with pytest.raises(DraftError, match="is no JSON"):
        load_head(saved, target)
    (saved / CONFIG).unlink()
    with pytest.raises(DraftError, match="is no draft head"):
        load_head(saved, target)
    with pytest.raises(DraftError, match="has no draft_head"):
        load_head(target.folder, target)


def test_weights_of_another_head(saved: Path, target: Any) -> None:
    weights = load_file(saved / WEIGHTS)
    save_file({**weights, "more": torch.zeros(2)}, saved / WEIGHTS)
    with pytest.raises(DraftError, match=r"more has the shape \(2,\) where none belongs"):
        load_head(saved, target)


def test_a_map_of_tokens_that_leads_nowhere(target: Any, tmp_path: Path) -> None:
    for wrong in ([3, 3, 4], [0, 1, 10**6], [-1, 0, 1]):
        head = head_for(target, vocabulary=3)
        assert head.token_ids is not None
        head.token_ids.copy_(torch.tensor(wrong))
        save_head(tmp_path, head, target)
        with pytest.raises(DraftError, match="wrong map of tokens"):
            load_head(tmp_path, target)


def test_the_head_that_comes_with_the_package(
    saved: Path, target: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` takes it for these weights and no others, whatever the folder is called."""
    package = tmp_path / "package"
    shutil.copytree(saved, package / "assets" / "some-draft")
    monkeypatch.setattr(foveate, "__file__", str(package / "__init__.py"))
    assert shipped_head(target) == package / "assets" / "some-draft"
    assert open_draft("auto", target).name == "head"
    edit(package / "assets" / "some-draft", lambda all_: all_["target"].update(weights_sha256="0" * 64))
    assert shipped_head(target) is None
    assert open_draft("auto", target).name == "ngram"
