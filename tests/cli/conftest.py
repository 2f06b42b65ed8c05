"""Fixtures for the command line: run it as a process, tiny checkpoints to point it at, pictures."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from terminal_driver import child_environment

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))  # for tiny.py, which builds random checkpoints

Runner = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def foveate() -> Runner:
    """Run `foveate ARGUMENTS` as a process of its own."""

    def run(
        *arguments: str, stdin: str | None = "", cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "foveate.cli", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=child_environment(**environment),
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def tiny_llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import build_tiny

    return build_tiny("llava", tmp_path_factory.mktemp("models") / "tiny-llava")


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model without eyes; built here because tiny.py holds vision-language families."""
    import transformers
    from tiny import scale_weights, tiny_tokenizer
    from tiny_families import TEXT

    folder = tmp_path_factory.mktemp("models") / "tiny-text"
    tokenizer = tiny_tokenizer((), "<|end|>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT, vocab_size=len(tokenizer)))
    scale_weights(model, 0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A small picture on disk, named with a space as people name them."""
    path = tmp_path / "my cat.png"
    Image.new("RGB", (40, 30), (200, 30, 30)).save(path)
    return path
