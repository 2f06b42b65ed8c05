"""From a reference to a loaded model: the embedded one, a local folder, or a hub id.

Owns where files come from, which are accepted (safetensors, no remote code, no missing weights), and the
choice of dtype and device with its reason. Local folders and the embedded model make no network attempt.
Knows no prompts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from foveate.errors import ModelError
from foveate.models.attention import LANGUAGE_ATTENTION, TOWER_ATTENTION, register
from foveate.models.checkpoint_files import check_weights, read_config, resolve
from foveate.models.overlay import Overlay
from foveate.models.parts.towers import lay_patches_in_rows
from foveate.models.parts.video_pixels import read_video_settings
from foveate.models.quantisation import check_scheme
from foveate.models.quantisation import quantise as quantise_model
from foveate.models.records import LoadedCheckpoint
from foveate.models.registry import TEXT_ONLY, FamilyInfo, adapter_class, find_family

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    ref: str | Path | None = None,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    revision: str | None = None,
    quantise: str | None = None,
) -> VisionLanguageModel:
    """Loads a checkpoint in Hugging Face format.

    Args:
        ref: None or "fovea-nano" for the embedded model, a local folder, or a hub id "organisation/name",
            with "@revision" allowed behind it. A folder may hold what differs from another model (`Overlay`).
        dtype: "auto", "float32", "bfloat16", "float16" or a torch dtype.
        device: "auto", "cpu", "cuda", "cuda:1"... or a torch device.
        revision: branch, tag or commit of a hub id.
        quantise: "int8" or "int4" keeps the language model's weights so, see `models.quantisation`.

    Raises:
        ModelError: nothing there, not safetensors, corrupt or incomplete weights, an unsupported model type,
            a dtype or device this machine has not, an unknown quantisation.
    """
    if quantise is not None:
        check_scheme(quantise)
    folder, name = resolve(ref, revision)
    overlay = Overlay.of(folder)
    base = folder if overlay is None else resolve(overlay.base)[0]
    config = read_config(base)
    family = find_family(str(config.get("model_type")))
    check_weights(folder)
    if overlay is not None:
        check_weights(base)
        overlay.check(base)
    torch_device, device_reason = choose_device(device)
    torch_dtype, dtype_reason = choose_dtype(dtype, torch_device, config)
    checkpoint = _load_checkpoint(name, base, family, torch_dtype, torch_device)
    if overlay is not None:
        overlay.apply(checkpoint["hf_model"])
        checkpoint["folder"] = folder
    model = adapter_class(family)(
        LoadedCheckpoint(**checkpoint, dtype_reason=dtype_reason, device_reason=device_reason)
    )
    if quantise is not None:
        model.quantisation = quantise_model(model, quantise)
    return model


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
    if device.type != "cpu":
        return torch.float32, f"untested on {device.type} in anything shorter"
    if not torch.cpu._is_amx_tile_supported():
        return torch.float32, "CPU without fast bf16"
    stored = config.get("dtype") or config.get("torch_dtype") or "an unnamed dtype"
    if stored == "bfloat16":
        return torch.bfloat16, "CPU with AMX, checkpoint stored in bfloat16"
    # Rounding other checkpoints to bfloat16 would change their answers.
    return torch.float32, f"CPU, checkpoint stored in {stored}"


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
        video_settings = {} if text_only else read_video_settings(folder)
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
    lay_patches_in_rows(model)
    return {
        "ref": name,
        "folder": folder,
        "config": model.config,
        "hf_model": model,
        "tokenizer": tokenizer,
        "image_processor": processor,
        "video_settings": video_settings,
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
