"""Where a checkpoint's files come from and which are accepted: the embedded model, a local folder, a hub id.

Owns resolving a reference, reading config.json, and the soundness of safetensors. Local folders and the
embedded model make no network attempt. Builds no model.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import foveate
from foveate.errors import ModelError
from foveate.models.registry import find_family

EMBEDDED = "fovea-nano"
PACKAGED = (EMBEDDED, "fovea-nano-stream")  # opened by their names; the second lies over the first
OVERLAY = "overlay.json"  # in a folder that holds the difference to another model, see `models.overlay`
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
CONVERT = (
    "Convert it where you trust its origin: AutoModelForImageTextToText.from_pretrained(folder)"
    ".save_pretrained(new_folder) writes safetensors."
)


def resolve(ref: str | Path | None, revision: str | None = None) -> tuple[Path, str]:
    """The local folder of a reference and the name to show; downloads a hub id to the cache first."""
    if ref is None or str(ref) in PACKAGED:
        name = EMBEDDED if ref is None else str(ref)
        folder = Path(foveate.__file__).parent / "assets" / name
        if not folder.is_dir():
            raise ModelError(
                f"The embedded model {name} is not installed",
                why=f"the package has no folder foveate/assets/{name}",
                fix="Reinstall foveate, or name another model: a local folder or organisation/name.",
            )
        return folder, name
    path = Path(ref).expanduser()
    if path.is_dir():
        return path, str(ref)
    text = str(ref)
    if path.is_file():
        raise ModelError(
            f"{text} is a file",
            why="a model is a folder with config.json and safetensors",
            fix="Name its folder.",
        )
    name, _, wanted = text.partition("@")
    if isinstance(ref, Path) or not HUB_ID.fullmatch(name) or name.startswith((".", "~", os.sep)):
        raise ModelError(
            f"No model at {text}",
            why="no such folder, and a hub id has the form organisation/name",
            fix=f"Check the path, or use the embedded model {EMBEDDED} (foveate ls).",
        )
    if wanted and revision and wanted != revision:
        raise ModelError(f"Two revisions for {name}: {wanted} and {revision}", fix="Give one of them.")
    return _download(name, wanted or revision), text


def _download(name: str, revision: str | None) -> Path:
    """The snapshot of a hub id; config.json first, so that an unsupported type costs no weights."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,  # of whichever HTTP library this huggingface_hub uses: httpx, or httpx2 from 2.4
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    label = f"{name}@{revision}" if revision else name
    try:
        first = Path(snapshot_download(name, revision=revision, allow_patterns=["config.json"]))
        find_family(str(read_config(first).get("model_type")))
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(HUB_FILES)))
    except GatedRepoError as error:
        raise ModelError(
            f"{label} is gated",
            why="its authors grant access by account",
            fix="Accept its terms; set HF_TOKEN.",
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"{name} has no revision {revision!r}", fix="Check the branch, tag or commit."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"No folder and no hub repository named {name}",
            why="it does not exist, or it is private",
            fix="Check the spelling; for a private one set HF_TOKEN.",
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise ModelError(
            f"{label} is not in the local cache",
            why="the hub cannot be reached or HF_HUB_OFFLINE is set",
            fix=f"Go online once, or use a local folder or the embedded model {EMBEDDED}.",
        ) from error
    except (HfHubHTTPError, HTTPError, OSError) as error:
        raise ModelError(
            f"Cannot download {label}", why=str(error).splitlines()[0], fix="Try again."
        ) from error


def _transport_errors(error: type[Exception]) -> tuple[type[Exception], ...]:
    """What the hub's HTTP library raises: its releases differ in which library that is, so ask the class
    tree.
    """
    return tuple(base for base in error.__mro__ if issubclass(base, Exception) and base is not Exception)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as a mapping.

    Raises:
        ModelError: missing, not JSON, without model_type, or of a quantised checkpoint.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise ModelError(
            f"{folder} has no config.json",
            why="a model folder in Hugging Face format needs one",
            fix="Name the folder that holds config.json and the safetensors.",
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file} is not valid JSON", why=str(error), fix="Download it again.") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelError(f"{file} names no model_type", fix="Use a checkpoint saved by transformers.")
    method = (config.get("quantization_config") or {}).get("quant_method")
    if method:
        raise ModelError(
            f"{folder} is quantised ({method})",
            why="quantised checkpoints are not supported",
            fix="Use the checkpoint in bfloat16 or float32.",
        )
    return config


def check_weights(folder: Path) -> None:
    """Every safetensors file is there and its header and length are sound, before any memory is spent."""
    from safetensors import SafetensorError, safe_open

    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{index} is not a weight index", why=repr(error), fix="Download it again."
            ) from error
    else:
        names = sorted(file.name for file in folder.glob("*.safetensors"))
    if not names:
        pickled = sorted(file.name for file in folder.glob("*.bin"))
        why = (
            f"it has only {pickled[0]}, a pickle that can run code when opened"
            if pickled
            else "it has no weights"
        )
        fix = CONVERT if pickled else "Download it again."
        raise ModelError(f"{folder} has no safetensors", why=why, fix=fix)
    for name in names:
        file = folder / name
        if not file.is_file():
            raise ModelError(
                f"{folder} lacks {name}", why="its weight index names it", fix="Download it again."
            )
        try:
            with safe_open(file, framework="pt") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{file} is corrupt or cut short", why=str(error), fix="Download it again."
            ) from error
