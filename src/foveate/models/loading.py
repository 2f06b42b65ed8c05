"""From a reference to a loaded model: the embedded one, a local folder, or a hub id.

Owns where files come from, which are accepted (safetensors, no remote code, no missing weights), and the
choice of dtype and device with its reason. Local folders and the embedded model make no network attempt.
Knows no prompts.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import foveate
from foveate.errors import ModelError
from foveate.models.attention import LANGUAGE_ATTENTION, TOWER_ATTENTION, register
from foveate.models.base import LoadedCheckpoint
from foveate.models.registry import TEXT_ONLY, FamilyInfo, adapter_class, find_family

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

EMBEDDED = "fovea-nano"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CONVERT = (
    "Convert it where you trust its origin: AutoModelForImageTextToText.from_pretrained(folder)"
    ".save_pretrained(new_folder) writes safetensors."
)


def load(
    ref: str | Path | None = None,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    revision: str | None = None,
) -> VisionLanguageModel:
    """Loads a checkpoint in Hugging Face format.

    Args:
        ref: None or "fovea-nano" for the embedded model, a local folder, or a hub id "organisation/name",
            with "@revision" allowed behind it.
        dtype: "auto", "float32", "bfloat16", "float16" or a torch dtype.
        device: "auto", "cpu", "cuda", "cuda:1"... or a torch device.
        revision: branch, tag or commit of a hub id.

    Raises:
        ModelError: nothing there, not safetensors, corrupt or incomplete weights, an unsupported model type,
            a dtype or device this machine has not.
    """
    folder, name = resolve(ref, revision)
    config = read_config(folder)
    family = find_family(str(config.get("model_type")))
    _check_weights(folder)
    torch_device, device_reason = choose_device(device)
    torch_dtype, dtype_reason = choose_dtype(dtype, torch_device, config)
    checkpoint = _load_checkpoint(name, folder, family, torch_dtype, torch_device)
    return adapter_class(family)(
        LoadedCheckpoint(**checkpoint, dtype_reason=dtype_reason, device_reason=device_reason)
    )


def resolve(ref: str | Path | None, revision: str | None = None) -> tuple[Path, str]:
    """The local folder of a reference and the name to show; downloads a hub id to the cache first."""
    if ref is None or str(ref) == EMBEDDED:
        folder = Path(foveate.__file__).parent / "assets" / EMBEDDED
        if not folder.is_dir():
            raise ModelError(
                f"The embedded model {EMBEDDED} is not installed",
                why="the package has no folder foveate/assets/fovea-nano",
                fix="Reinstall foveate, or name another model: a local folder or organisation/name.",
            )
        return folder, EMBEDDED
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
    """What the hub's HTTP library raises: its releases differ in which library that is, so ask the class tree."""
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


def _check_weights(folder: Path) -> None:
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


def choose_device(device: str | torch.device) -> tuple[torch.device, str]:
    """The device and why."""
    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"CUDA: {torch.cuda.get_device_name()}"
        return torch.device("cpu"), "no CUDA device"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"Unknown device {device!r}", fix="Use auto, cpu, cuda or mps.") from error
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    there = counts.get(chosen.type, 0)
    if (chosen.index or 0) >= there:
        raise ModelError(
            f"No device {chosen}", why=f"torch sees {there} of type {chosen.type} here", fix="Use device cpu."
        )
    return chosen, "as asked"


def choose_dtype(
    dtype: str | torch.dtype, device: torch.device, config: dict[str, Any]
) -> tuple[torch.dtype, str]:
    """The dtype and why; "auto" never trades float32 away on a CPU that would be slower for it."""
    if isinstance(dtype, torch.dtype):
        return dtype, "as asked"
    if dtype != "auto":
        if dtype not in DTYPES:
            raise ModelError(f"Unknown dtype {dtype!r}", fix=f"Use auto, {', '.join(DTYPES)}.")
        return DTYPES[dtype], "as asked"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major >= 8:
            return torch.bfloat16, f"SM {major}{minor}"
        return torch.float16, f"SM {major}{minor} has no fast bf16"
    stored = str(config.get("dtype") or config.get("torch_dtype"))
    if device.type == "cpu" and stored == "bfloat16" and torch.cpu._is_amx_tile_supported():
        return torch.bfloat16, "CPU with AMX, checkpoint stored in bfloat16"
    return torch.float32, "CPU without fast bf16"


def _load_checkpoint(
    name: str, folder: Path, family: FamilyInfo, dtype: torch.dtype, device: torch.device
) -> dict[str, Any]:
    """Model, tokenizer and image processor of a folder, as keyword arguments of `LoadedCheckpoint`."""
    import transformers

    register()
    text_only = family is TEXT_ONLY
    auto = transformers.AutoModelForCausalLM if text_only else transformers.AutoModelForImageTextToText
    attention = (
        LANGUAGE_ATTENTION
        if text_only
        else {"text_config": LANGUAGE_ATTENTION, "vision_config": TOWER_ATTENTION}
    )
    local = {"local_files_only": True, "trust_remote_code": False}
    # Reading local files takes a moment: a progress bar would only clutter the caller's terminal.
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        model, report = auto.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            attn_implementation=attention,
            output_loading_info=True,
            **local,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
        processor = (
            None
            if text_only
            else transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", **local)
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        raise ModelError(
            f"{name} cannot be loaded as {family.name}",
            why=" ".join(str(error).split())[:400] or repr(error),
            fix="Check that config.json, tokenizer and weights belong together.",
        ) from error
    finally:
        if bars:
            transformers.utils.logging.enable_progress_bar()
    _refuse_missing(name, report)
    model.eval().requires_grad_(False).to(device)
    return {
        "ref": name,
        "folder": folder,
        "config": model.config,
        "hf_model": model,
        "tokenizer": tokenizer,
        "image_processor": processor,
        "chat_template": _chat_template(folder, tokenizer),
        "dtype": dtype,
        "device": device,
    }


def _refuse_missing(name: str, report: dict[str, Any]) -> None:
    """transformers fills absent weights at random and only warns; an answer from those is worse than none."""
    missing = sorted(report["missing_keys"]) + sorted(str(item) for item in report["mismatched_keys"])
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise ModelError(
            f"{name} lacks {len(missing)} of its weights",
            why=f"config.json asks for {shown}",
            fix="The checkpoint is incomplete or belongs to another architecture: download it again.",
        )


def _chat_template(folder: Path, tokenizer: Any) -> str | None:
    """The template of the processor or the tokenizer; older checkpoints keep it in chat_template.json."""
    plain = folder / "chat_template.jinja"
    if plain.is_file():
        return plain.read_text(encoding="utf-8")
    older = folder / "chat_template.json"
    if older.is_file():
        return str(json.loads(older.read_text(encoding="utf-8"))["chat_template"])
    template = getattr(tokenizer, "chat_template", None)
    return template.get("default") if isinstance(template, dict) else template
