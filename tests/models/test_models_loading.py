"""What is accepted as a checkpoint, what is refused and how it is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from foveate.errors import FoveateError, ModelError
from foveate.models import load, supported_families
from foveate.models.checkpoint_files import resolve
from foveate.models.loading import choose_dtype
from foveate.models.registry import FAMILIES, adapter_class, find_family


@pytest.fixture
def copy(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A checkpoint that a test may damage."""

    def make(family: str) -> Path:
        return Path(shutil.copytree(tiny_folder(family), tmp_path / family))

    return make


def refusal(ref: object, **keywords: object) -> str:
    """The one line that a bad reference gives."""
    with pytest.raises(ModelError) as caught:
        load(ref, **keywords)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    return text


def edit_config(folder: Path, **changes: object) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


def test_every_registry_entry(tiny_folder: Callable[[str], Path]) -> None:
    """Adapter imports, names match, a tiny checkpoint of every model type loads through it."""
    recipes = {**tiny.FAMILIES, **tiny.TEXT_FAMILIES}
    seen = set()
    for family in supported_families():
        adapter = adapter_class(family)
        assert adapter.__name__ == family.adapter.partition(":")[2]
        assert adapter.family == family.name
        assert family.paper and family.licence and family.salience and family.positions
        for model_type in family.model_types:
            assert model_type in recipes, f"no tiny checkpoint of {model_type}"
            model = load(tiny_folder(model_type), device="cpu")
            assert type(model) is adapter
            assert model.config.model_type == model_type
            seen.add(model_type)
    assert len(seen) == sum(len(family.model_types) for family in supported_families())
    assert len({family.name for family in supported_families()}) == len(supported_families())


def test_describe(pair_of: Callable) -> None:
    facts = pair_of("llava").ours.describe()
    assert facts["parameters"] == sum(weight.numel() for weight in pair_of("llava").theirs.parameters())
    assert facts["dtype"] == "float32" and facts["dtype_reason"]
    assert facts["device"] == "cpu" and facts["device_reason"]
    assert facts["context_length"] == 4096 and facts["accepts_images"] is True
    assert json.loads(json.dumps(facts)) == facts


def test_package_imports_no_torch() -> None:
    script = (
        "import sys, foveate.models as m; m.supported_families(); m.FamilyInfo;"
        "assert not {'torch', 'transformers'} & set(sys.modules); print(len(m.supported_families()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(FAMILIES) + 1


def test_local_folder_makes_no_network_attempt(tiny_folder: Callable[[str], Path]) -> None:
    """Any socket that connects or looks a name up ends the process."""
    script = (
        "import socket, sys, warnings\n"
        "def refuse(*a, **k): raise SystemExit(f'network attempt: {a}')\n"
        "socket.socket.connect = socket.socket.connect_ex = refuse\n"
        "socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse\n"
        "from foveate.models import load\n"
        f"model = load({str(tiny_folder('llava'))!r}, device='cpu')\n"
        "prompt = model.prepare([{'role': 'user', 'content': 'hello'}])\n"
        "print(len(list(model.generate(prompt, max_new_tokens=3))))\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["3"]


def test_nothing_there(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "absent")
    assert "no such folder" in refusal("./absent")
    assert "organisation/name" in refusal("fovea-nanoo")
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    assert "is a file" in refusal(file)
    assert "config.json" in refusal(tmp_path)


def test_embedded_name(
    monkeypatch: pytest.MonkeyPatch, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    import foveate

    monkeypatch.setattr(foveate, "__file__", str(tmp_path / "__init__.py"))
    assert "fovea-nano is not installed" in refusal(None)
    shutil.copytree(tiny_folder("llava"), tmp_path / "assets" / "fovea-nano")
    assert load(device="cpu").ref == load("fovea-nano", device="cpu").ref == "fovea-nano"


def test_hub_id_without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    text = refusal("nobody/nothing@v1")
    assert "nobody/nothing@v1" in text and "local cache" in text
    with pytest.raises(ModelError, match="Two revisions"):
        resolve("nobody/nothing@v1", "v2")


def test_hub_snapshot_asks_for_the_revision_and_no_pickles(
    monkeypatch: pytest.MonkeyPatch, tiny_folder: Callable[[str], Path]
) -> None:
    calls: list[tuple] = []

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        calls.append((name, revision, tuple(allow_patterns)))
        return str(tiny_folder("llava"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert load("someone/model@abc", device="cpu").ref == "someone/model@abc"
    assert [call[:2] for call in calls] == [("someone/model", "abc")] * 2
    assert calls[0][2] == ("config.json",)
    assert not any("bin" in pattern or pattern == "*" for pattern in calls[1][2])


def test_unsupported_type_is_refused_by_name(copy: Callable[[str], Path]) -> None:
    text = refusal(edit_config(copy("llava"), model_type="mllama"))
    assert "'mllama'" in text
    for family in FAMILIES:
        assert family.name in text
    assert "Did you mean" not in text, "mllama is no misspelling of a text model"
    with pytest.raises(ModelError, match="Did you mean 'qwen2_5_vl'"):
        find_family("qwen2_5_vll")


def test_remote_code_is_never_run(copy: Callable[[str], Path]) -> None:
    folder = edit_config(
        copy("llava"),
        model_type="internvl_chat",
        auto_map={"AutoModel": "evil.Model", "AutoConfig": "evil.Config"},
    )
    (folder / "evil.py").write_text("raise SystemExit('remote code ran')")
    assert "'internvl_chat'" in refusal(folder)
    folder = edit_config(folder, model_type="llava")
    assert load(folder, device="cpu").family == "llava", "auto_map is ignored where we know the type"


def test_pickles_are_refused(copy: Callable[[str], Path]) -> None:
    folder = copy("llava")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    text = refusal(folder)
    assert "pytorch_model.bin" in text and "save_pretrained" in text
    (folder / "pytorch_model.bin").unlink()
    assert "no weights" in refusal(folder)


@pytest.mark.parametrize("keep", [0, 5, 2000, -100])
def test_damaged_weights(copy: Callable[[str], Path], keep: int) -> None:
    file = copy("llava") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    assert "model.safetensors is corrupt or cut short" in refusal(file.parent)


def test_missing_weights_are_not_made_up(copy: Callable[[str], Path]) -> None:
    file = copy("llava") / "model.safetensors"
    weights = load_file(file)
    lost = [name for name in weights if "multi_modal_projector" in name]
    save_file({name: weight for name, weight in weights.items() if name not in lost}, file, {"format": "pt"})
    text = refusal(file.parent)
    assert f"lacks {len(lost)} of its weights" in text and "multi_modal_projector.linear_1.bias" in text


def test_shard_named_by_the_index_is_missing(copy: Callable[[str], Path]) -> None:
    folder = copy("llava")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}))
    assert "lacks model-2.safetensors" in refusal(folder)
    index.write_text("[]")
    assert "not a weight index" in refusal(folder)


def test_broken_files_beside_the_weights(copy: Callable[[str], Path]) -> None:
    folder = copy("llava")
    assert "quantised (gptq)" in refusal(edit_config(folder, quantization_config={"quant_method": "gptq"}))
    edit_config(folder, quantization_config=None)
    (folder / "tokenizer.json").unlink()
    assert "cannot be loaded as llava" in refusal(folder)
    (folder / "config.json").write_text("{")
    assert "not valid JSON" in refusal(folder)
    (folder / "config.json").write_text("{}")
    assert "names no model_type" in refusal(folder)


def test_dtype_and_device(tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_folder("llava")
    half = load(folder, dtype="bfloat16", device="cpu")
    assert half.dtype is torch.bfloat16 and half.dtype_reason == "as asked"
    prompt = half.prepare(
        [{"role": "user", "content": [{"type": "image"}]}], images=[tiny.picture(50, 50, 1)]
    )
    assert len(list(half.generate(prompt, max_new_tokens=3))) == 3
    assert "float8" in refusal(folder, dtype="float8")
    assert "toaster" in refusal(folder, device="toaster")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "No device cuda:1: torch sees 0" in refusal(folder, device="cuda:1")
    assert "No device cuda" in refusal(folder, device="cuda")
    assert "No device meta" in refusal(folder, device="meta")
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert choose_dtype("auto", cuda, {}) == (torch.bfloat16, "SM 90")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert choose_dtype("auto", cuda, {})[0] is torch.float16
    cpu = torch.device("cpu")
    for amx in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        expected = torch.bfloat16 if amx else torch.float32
        assert choose_dtype("auto", cpu, {"dtype": "bfloat16"})[0] is expected
        why = "CPU, checkpoint stored in float16" if amx else "CPU without fast bf16"
        assert choose_dtype("auto", cpu, {"dtype": "float16"}) == (torch.float32, why)


def test_older_chat_template_file(copy: Callable[[str], Path]) -> None:
    folder = copy("llava")
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "OLD {{ messages[0]['role'] }}"}))
    model = load(folder, device="cpu")
    assert model.prepare([{"role": "user", "content": "x"}]).text == "OLD user"
    (folder / "chat_template.json").unlink()
    model = load(folder, device="cpu")
    text = model.prepare([{"role": "user", "content": "how many"}]).text
    assert text == "USER: how many ASSISTANT:", "LLaVA-1.5's own form stands in"


def test_errors_are_the_rooms_own() -> None:
    assert issubclass(ModelError, FoveateError)
