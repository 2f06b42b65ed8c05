"""Tiny checkpoints of each family, built once a session, under our contract and under plain transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from reference import plain_inputs

import foveate
from foveate.models import load


class Family:
    """One tiny checkpoint and what plain transformers answers with it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.model = load(folder, device="cpu", dtype="float32")
        recipe = {**tiny.FAMILIES, **tiny.TEXT_FAMILIES}[name]
        self.has_images = name in tiny.FAMILIES
        self._plain = getattr(transformers, recipe.auto).from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        )
        self._plain.eval()

    def pictures(self, count: int, seed: int) -> list[Any]:
        """Pictures of the family's awkward sizes, each different."""
        sizes = tiny.FAMILIES[self.name].sizes
        return [tiny.picture(*sizes[(seed + i) % len(sizes)], seed * 10 + i) for i in range(count)]

    def ask(self, text: str, images: list[Any]) -> tuple[Any, list[Any]]:
        """(prompt, images) of one user message."""
        parts = [*({"type": "image"} for _ in images), {"type": "text", "text": text}]
        content: Any = parts if self.has_images else text
        return self.model.prepare([{"role": "user", "content": content}], images=images), images

    def plain(self, prompt: Any, images: list[Any], count: int) -> tuple[list[int], torch.Tensor]:
        """(greedy tokens, their log-probabilities) of plain `transformers.generate` for this request alone."""
        inputs = plain_inputs(self.name, self.folder, prompt.token_ids, images)
        with torch.no_grad():
            output = self._plain.generate(
                **inputs,
                max_new_tokens=count,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
            )
        ids = output.sequences[0, len(prompt.token_ids) :].tolist()
        rows = torch.cat(output.logits).double().log_softmax(dim=-1)
        return ids, rows[torch.arange(len(ids)), ids]

    def never_stop(self) -> None:
        """Plain transformers goes on past the end of sequence."""
        self._plain.generation_config.eos_token_id = None

    def hidden_states(self, prompt: Any, images: list[Any]) -> tuple[torch.Tensor, ...]:
        """Plain transformers' hidden states: embeddings, then the output of every layer."""
        inputs = plain_inputs(self.name, self.folder, prompt.token_ids, images)
        with torch.no_grad():
            return self._plain(**inputs, output_hidden_states=True).hidden_states


@pytest.fixture(scope="session")
def nano() -> Family:
    """fovea-nano itself, in float32 on both sides; plain transformers does not stop at the end."""
    folder = Path(foveate.__file__).parent / "assets" / "fovea-nano"
    if not (folder / "model.safetensors").exists():
        pytest.skip("this checkout carries no weights of fovea-nano")
    family = Family("llava", folder)
    family.never_stop()
    return family


@pytest.fixture(scope="session")
def family_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Family]:
    """Name -> the tiny family."""
    made: dict[str, Family] = {}
    root = tmp_path_factory.mktemp("tiny_engine")

    def make(name: str) -> Family:
        if name not in made:
            made[name] = Family(name, tiny.build_tiny(name, root / name))
        return made[name]

    return make
