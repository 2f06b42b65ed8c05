"""Which models are at hand: the embedded one and those in the Hugging Face cache.

Reads folders only: no torch, no network, nothing written.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import foveate
from foveate.cli.arguments import EMBEDDED_MODEL
from foveate.models.digest import weights_digest
from foveate.models.registry import supported_families

CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """A checkpoint on this machine.

    Attributes:
        ref: what `foveate chat` takes: a name, or hub-name@revision where a cache holds several revisions.
        family: our family, or None where its model_type has no adapter.
        origin: "embedded" or "cache".
        bytes: size on disk of this revision.
        digest: SHA-256 of the weights (embedded) or the commit (cache).
    """

    ref: str
    family: str | None
    model_type: str
    origin: str
    bytes: int
    digest: str
    folder: str

    def as_object(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def family_of(model_type: str) -> str | None:
    """Our family's name for a model_type, or None."""
    return next((info.name for info in supported_families() if model_type in info.model_types), None)


def model_type_in(folder: Path) -> str:
    """`model_type` of config.json in this folder, "" where it cannot be read."""
    try:
        value = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("model_type", "")
    except (OSError, ValueError, AttributeError):  # absent, not JSON, or JSON that is no object
        return ""
    return value if isinstance(value, str) else ""


def embedded_folder(name: str = EMBEDDED_MODEL) -> Path:
    """Where the package keeps a model of its own."""
    return Path(foveate.__file__).parent / "assets" / name


def embedded_model(name: str = EMBEDDED_MODEL) -> KnownModel | None:
    """A model of the package, or None where this installation lacks its weights; what lies over fovea-nano has that
    one's configuration."""
    folder = embedded_folder(name)
    weights = folder / WEIGHTS
    configured = folder if (folder / CONFIG).is_file() else embedded_folder()
    if not (weights.is_file() and (configured / CONFIG).is_file()):
        return None
    model_type = model_type_in(configured)
    return KnownModel(
        ref=name,
        family=family_of(model_type),
        model_type=model_type,
        origin="embedded",
        bytes=weights.stat().st_size,
        digest=weights_digest(folder),
        folder=str(folder),
    )


def cache_folder() -> Path:
    """The Hugging Face cache in force (HF_HOME, HF_HUB_CACHE)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cached_models() -> list[KnownModel]:
    """Models in the Hugging Face cache that have a config.json, by name; `family` None where we lack it."""
    from huggingface_hub import scan_cache_dir

    folder = cache_folder()
    if not folder.is_dir():
        return []
    models = []
    for repo in sorted(scan_cache_dir(folder).repos, key=lambda repo: repo.repo_id):
        if repo.repo_type != "model":
            continue
        for revision in sorted(repo.revisions, key=lambda revision: revision.commit_hash):
            model_type = model_type_in(revision.snapshot_path)
            if not model_type:
                continue
            several = len(repo.revisions) > 1
            models.append(
                KnownModel(
                    ref=f"{repo.repo_id}@{revision.commit_hash}" if several else repo.repo_id,
                    family=family_of(model_type),
                    model_type=model_type,
                    origin="cache",
                    bytes=revision.size_on_disk,
                    digest=revision.commit_hash,
                    folder=str(revision.snapshot_path),
                )
            )
    return models
