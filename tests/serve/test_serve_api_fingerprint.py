"""The word for what a server answers with: the same in every reply, another after any change of weights or code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from live_server import LiveServer, live_server

import foveate
from foveate.models.digest import code_digest
from foveate.serve import fingerprint

DESCRIBED = {"dtype": "float32", "device": "cpu", "quantisation": "none", "context_length": 9}


def made(folder: Path, **other: Any) -> Any:
    """As much of a model as its digest reads."""
    return SimpleNamespace(folder=folder, describe=lambda: DESCRIBED | other)


def test_every_reply_and_the_model_list_have_the_same(
    server: LiveServer, client: openai.OpenAI, ask: Callable[..., Any]
) -> None:
    card = client.models.list().data[0]
    word = card.system_fingerprint  # type: ignore[attr-defined]
    assert word.startswith("fv_")
    assert server.chat(ask(), max_tokens=1).json()["system_fingerprint"] == word
    events = server.chat(ask(), max_tokens=2, stream=True).text.strip().split("\n\n")[:-1]
    assert {json.loads(event[6:])["system_fingerprint"] for event in events} == {word}
    text = client.completions.create(model="fovea-nano", prompt="How", max_tokens=1)
    assert text.system_fingerprint == word


def test_other_defaults_of_a_server_are_another(server: LiveServer, model: Any) -> None:
    with live_server(model, visual_budget="25%") as other:
        cards = [one.http.get("/v1/models").json()["data"][0] for one in (server, other)]
    assert cards[0]["system_fingerprint"] != cards[1]["system_fingerprint"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "generation_config.json", "merges.txt"])
def test_any_file_that_is_loaded_counts(tmp_path: Path, name: str) -> None:
    for one in {"model.safetensors", name}:
        (tmp_path / one).write_text("1")
    before = fingerprint.model_digest(made(tmp_path))
    assert fingerprint.model_digest(made(tmp_path)) == before
    (tmp_path / "README.md").write_text("words")
    assert fingerprint.model_digest(made(tmp_path)) == before
    assert fingerprint.model_digest(made(tmp_path, dtype="bfloat16")) != before
    (tmp_path / name).write_text("2")
    assert fingerprint.model_digest(made(tmp_path)) != before


def test_code_counts_where_it_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_text("1")
    for room in (*fingerprint.ROOMS, "cli"):
        (tmp_path / room).mkdir()
    monkeypatch.setattr(foveate, "__file__", str(tmp_path / "__init__.py"))
    digests = []
    for changed in ("cli/a.py", *(f"{room}/a.py" for room in fingerprint.ROOMS)):
        code_digest.cache_clear()
        digests.append(fingerprint.model_digest(made(tmp_path)))
        (tmp_path / changed).write_text("1")
    code_digest.cache_clear()
    assert digests[0] == digests[1] and len(set(digests)) == len(fingerprint.ROOMS)


def test_files_that_are_gone_leave_it_unknown(tmp_path: Path) -> None:
    import asyncio

    shutil.rmtree(tmp_path)

    async def get() -> str | None:
        return await fingerprint.ModelDigest(made(tmp_path)).get()

    assert asyncio.run(get()) is None
