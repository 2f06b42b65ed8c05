"""A head on disk: config.json and model.safetensors, for one target that is told by the digest of its weights.

Owns what is written and all that can be wrong with what is read. Heads for other weights would still be lossless, but
guess badly for no visible reason, so they are refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import foveate
from foveate.decode.drafts.base import DraftError
from foveate.decode.heads.config import HeadConfig
from foveate.decode.heads.model import DraftHead
from foveate.errors import nearest
from foveate.models.digest import weights_digest

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_KEYS = {"draft_head", "target"}
TRAIN = "Train one for it: foveate train draft MODEL --out FOLDER."


def save_head(
    folder: Path, head: DraftHead, target: VisionLanguageModel, *, dtype: torch.dtype = torch.float16
) -> None:
    """Writes the head, each file whole or not at all; the configuration last, without which it is no head."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.detach().cpu().to(dtype if value.is_floating_point() else torch.int32).contiguous()
        for name, value in head.state_dict().items()
    }
    beside = folder / (WEIGHTS + ".part")
    save_file(weights, beside)
    beside.replace(folder / WEIGHTS)
    described = {"draft_head": head.config.to_json(), "target": describe_target(target)}
    beside = folder / (CONFIG + ".part")
    beside.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    beside.replace(folder / CONFIG)


def load_head(folder: Path, target: VisionLanguageModel) -> DraftHead:
    """The head in the target's dtype on its device, ready to guess.

    Raises:
        DraftError: a file is missing, cut or of another form; settings or shapes do not fit each other; the head was
            trained for another target.
    """
    described = _read_config(folder)
    _check_target(folder, described["target"], target)
    config = HeadConfig.from_json(described["draft_head"])
    _check_shapes(folder, config, target)
    file = folder / WEIGHTS
    try:
        weights = load_file(file)
    except FileNotFoundError as error:
        raise DraftError(f"The draft head {folder} has no {WEIGHTS}", fix="Copy the whole folder.") from error
    except (SafetensorError, OSError) as error:
        raise DraftError(
            f"{file} cannot be read", why=str(error), fix="Copy it again: it may be cut."
        ) from error
    head = DraftHead(config)
    expected = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    for name in sorted(expected.keys() | weights.keys()):
        found = tuple(weights[name].shape) if name in weights else "none"
        if found != expected.get(name, "none"):
            raise DraftError(
                f"{file} does not fit its {CONFIG}",
                why=f"{name} has the shape {found} where {expected.get(name, 'none')} belongs",
                fix="Copy both files of the folder from one place.",
            )
    head.load_state_dict(weights)
    if head.token_ids is not None:
        _check_tokens(file, head.token_ids, int(target.text_config.vocab_size))
    return head.to(device=target.device, dtype=target.dtype).eval().requires_grad_(False)


def is_head(folder: Path) -> bool:
    """Whether the folder's configuration is that of a draft head."""
    try:
        described = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(described, dict) and "draft_head" in described


def shipped_head(target: VisionLanguageModel) -> Path | None:
    """The head in this package that was trained for these weights, if there is one.

    Weights are read only where family, layers' width and vocabulary already agree.
    """
    found = sorted((Path(foveate.__file__).parent / "assets").glob(f"*-draft/{CONFIG}"))
    for folder in (file.parent for file in found):
        if is_head(folder):
            described = _read_config(folder)
            theirs = described["target"]
            alike = all(theirs[name] == value for name, value in _outline(target).items())
            if alike and theirs["weights_sha256"] == weights_digest(target):
                return folder
    return None


def describe_target(target: VisionLanguageModel) -> dict[str, Any]:
    """Who a head is for. Its name is for people: the digest decides.

    Raises:
        OSError: the target's weights cannot be read any more.
    """
    return {"name": _name(target), **_outline(target), "weights_sha256": weights_digest(target)}


def _outline(target: VisionLanguageModel) -> dict[str, Any]:
    text = target.text_config
    return {
        "family": target.family,
        "hidden_size": int(text.hidden_size),
        "vocabulary": int(text.vocab_size),
    }


def _name(target: VisionLanguageModel) -> str:
    """The last part of a folder, for where it lies is of no use to others; else the hub's name."""
    ref = str(target.ref)
    return target.folder.resolve().name if Path(ref).expanduser().is_dir() else ref


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DraftError(
            f"{folder} is no draft head", why=f"{CONFIG} cannot be read: {error.strerror}"
        ) from error
    except ValueError as error:
        raise DraftError(f"{file} is no JSON", why=str(error), fix="Copy it again: it may be cut.") from error
    if not isinstance(described, dict) or "draft_head" not in described:
        raise DraftError(f"{folder} is no draft head", why=f"{CONFIG} has no draft_head", fix=TRAIN)
    for name in described:
        if name not in _KEYS:
            raise DraftError(f"{file} has an unknown key {name!r}", fix=nearest(name, _KEYS))
    target = described.get("target")
    wanted = {"name", "family", "hidden_size", "vocabulary", "weights_sha256"}
    if not isinstance(target, dict) or set(target) != wanted or not isinstance(described["draft_head"], dict):
        raise DraftError(
            f"{file} does not say which target the head is for",
            why=f"target must have {', '.join(sorted(wanted))}",
        )
    return described


def _check_target(folder: Path, theirs: dict[str, Any], target: VisionLanguageModel) -> None:
    ours = describe_target(target)
    if ours["weights_sha256"] != theirs["weights_sha256"]:
        raise DraftError(
            f"The draft head {folder} was not trained for {ours['name']}",
            why=f"it is for {theirs['name']} with weights of SHA-256 {str(theirs['weights_sha256'])[:12]}, and these "
            f"have {ours['weights_sha256'][:12]}",
            fix=TRAIN.replace("MODEL", ours["name"]),
        )


def _check_shapes(folder: Path, config: HeadConfig, target: VisionLanguageModel) -> None:
    """That the head is as wide as its target and reads layers that it has."""
    outline, layers = _outline(target), int(target.text_config.num_hidden_layers)
    wrong = None
    if config.hidden_size != outline["hidden_size"]:
        wrong = f"it is {config.hidden_size} wide and the target {outline['hidden_size']}"
    elif config.vocabulary is not None and config.vocabulary > outline["vocabulary"]:
        wrong = f"it guesses {config.vocabulary} tokens and the target has {outline['vocabulary']}"
    elif any(not 0 <= layer < layers for layer in config.taps):
        wrong = f"it reads the layers {config.taps} and the target has 0 to {layers - 1}"
    if wrong is not None:
        raise DraftError(f"The draft head {folder} does not fit {_name(target)}", why=wrong, fix=TRAIN)


def _check_tokens(file: Path, token_ids: torch.Tensor, vocabulary: int) -> None:
    ascending = bool((token_ids.diff() > 0).all())
    if not ascending or int(token_ids[0]) < 0 or int(token_ids[-1]) >= vocabulary:
        raise DraftError(
            f"{file} has a wrong map of tokens", why=f"token_ids must be ascending and below {vocabulary}"
        )
