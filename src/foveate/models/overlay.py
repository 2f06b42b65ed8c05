"""A checkpoint that is told by what differs from another: its own tensors over those of its base.

Owns the folder's form: `overlay.json` names the base and the digest of its weights, `model.safetensors` has the tensors
that take the place of the base's, under the base's names. Everything else (configuration, tokenizer, tower) is the
base's. Knows no training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.errors import ModelError
from foveate.models.checkpoint_files import OVERLAY
from foveate.models.digest import weights_digest

if TYPE_CHECKING:
    import torch

CARD, WEIGHTS = OVERLAY, "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """`base` is the reference of the model below; `digest` is its `weights_digest`."""

    folder: Path
    base: str
    digest: str

    @classmethod
    def of(cls, folder: Path) -> Overlay | None:
        """The overlay in a folder; None where it is an ordinary checkpoint.

        Raises:
            ModelError: its card cannot be read.
        """
        card = folder / CARD
        if not card.is_file():
            return None
        try:
            told = json.loads(card.read_text(encoding="utf-8"))
            return cls(folder=folder, base=told["base"], digest=told["base_sha256"])
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{card} is no overlay", why=repr(error), fix="Write it again.") from error

    def check(self, base: Path) -> None:
        """Refuses a base that is not the one this was made over.

        Raises:
            ModelError: with both digests.
        """
        found = weights_digest(base)
        if found != self.digest:
            raise ModelError(
                f"{self.folder} was made over other weights of {self.base}",
                why=f"their SHA-256 begins with {self.digest[:12]}, that of the base here with {found[:12]}",
                fix="Train it again over this base, or bring back the other.",
            )

    def apply(self, model: Any) -> None:
        """Puts the tensors in their places.

        Raises:
            ModelError: a name or a shape that the base has not.
        """
        import torch  # here, so that a list of models does without it
        from safetensors.torch import load_file

        places = dict(model.named_parameters())
        for name, value in load_file(self.folder / WEIGHTS).items():
            if name not in places or places[name].shape != value.shape:
                raise ModelError(
                    f"{self.folder} does not fit {self.base}",
                    why=f"there is no {name} of shape {tuple(value.shape)} in it",
                    fix="Use the base that it was made over.",
                )
            with torch.no_grad():
                places[name].copy_(value)


def write(folder: Path, *, base: str, base_folder: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    """Writes an overlay with `tensors` under the base's names, in float16."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: value.detach().cpu().to(torch.float16).contiguous() for name, value in tensors.items()}
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})
    card = {"base": base, "base_sha256": weights_digest(base_folder)}
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return folder
