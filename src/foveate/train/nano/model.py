"""fovea-nano's architecture, its training-only heads, and its export as a Hugging Face LLaVA checkpoint.

The shipped model is a plain `LlavaForConditionalGeneration`. The extra heads teach the tower what lies under
each patch (dense labels) and what is in the whole picture (CLS); they are thrown away at export.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from foveate.train.nano import attention  # noqa: F401  (registers the two attention functions)
from foveate.train.nano.batches import Batch
from foveate.train.nano.dense import CLASS_COUNTS, CLASS_WORDS, SCENE_LABELS

IMAGE_SIZE = 168
PATCH = 14
GRID = IMAGE_SIZE // PATCH
VISUAL_TOKENS = GRID * GRID
CONTEXT = 1024


def build_config(tokenizer: PreTrainedTokenizerFast) -> LlavaConfig:
    """About 7.8 M parameters: a five-layer CLIP tower with CLS, an MLP projector and a six-layer Llama."""
    vision = CLIPVisionConfig(
        hidden_size=256,
        intermediate_size=768,
        projection_dim=256,
        num_hidden_layers=5,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH,
        hidden_act="gelu",
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projector_hidden_act="gelu",
        # The last layer, CLS dropped. Its CLS row is trained through the scene labels, so it means something.
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=VISUAL_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


class NanoTrainee(nn.Module):
    """The model with its training-only heads."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        config = build_config(tokenizer)
        self.user_token = int(tokenizer.convert_tokens_to_ids("<user>"))
        self.llava = LlavaForConditionalGeneration(config)
        self.llava.model.language_model.config._attn_implementation = "foveate_train_packed"
        self.llava.model.vision_tower.config._attn_implementation = "foveate_train_tower"
        width = config.vision_config.hidden_size
        self.dense_heads = nn.ModuleDict({name: nn.Linear(width, n) for name, n in CLASS_COUNTS.items()})
        self.offset_head = nn.Linear(width, 2)
        self.scene_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, SCENE_LABELS))
        self.look_query = nn.Linear(config.text_config.hidden_size, 64)
        self.look_key = nn.Linear(config.text_config.hidden_size, 64)
        for name, words in CLASS_WORDS.items():
            # A word at the start of an answer and within a sentence are two tokens; characters are one.
            pairs = [
                [tokenizer.encode(form, add_special_tokens=False)[-1] for form in (w, f" {w}")] for w in words
            ]
            self.register_buffer(f"words_{name}", torch.tensor(pairs), persistent=False)

    def see(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, S, S] -> tower output [B, 1 + GRID², width], CLS first, and projected patches [B, GRID², width]."""
        seen = self.llava.model.vision_tower(pixels).last_hidden_state
        return seen, self.llava.model.multi_modal_projector(seen[:, 1:])

    def word_logits(self, visual: Tensor, name: str) -> Tensor:
        """Likeness of each visual token to the embeddings of the words of one label: [B, N, words].

        Teaching a patch of a red star to resemble "red" and "star" where the language model first meets it lets
        attention find it by the words of the question.
        """
        table = self.llava.model.language_model.embed_tokens.weight
        words = F.normalize(table[self.get_buffer(f"words_{name}")].float().mean(dim=1), dim=-1)
        return 10 * F.normalize(visual.float(), dim=-1) @ words.T

    def look_logits(self, hidden: Tensor, visual: Tensor, batch: Batch) -> Tensor:
        """[M, N]: how much each patch matters to each question, told from the state that begins the reply."""
        query = self.look_query(hidden[batch.look_rows, batch.look_places].float())
        key = self.look_key(visual.float())[batch.look_rows]
        return (key @ query[..., None]).squeeze(-1) / 8 - 3  # starts near the share of patches that matter

    def read(self, visual: Tensor | None, text_ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Hidden states of the language model at the text places.

        Args:
            visual: [B, N, width] projected patches, or None for a batch without pictures.
            text_ids: [B, T] what follows `<bos><user>` and the N visual tokens.
            mask: [B, 1, T, P + T] added to the text places' scores; P = 2 + N (or 2).
            positions: [B, P + T].

        Returns:
            [B, T, width of the language model].
        """
        inner = self.llava.model
        config = self.llava.config
        opening = torch.tensor([config.text_config.bos_token_id, self.user_token], device=text_ids.device)
        embed = inner.language_model.embed_tokens
        parts = [embed(opening).expand(len(text_ids), -1, -1), embed(text_ids)]
        if visual is not None:
            parts.insert(1, visual.to(parts[0].dtype))
        hidden = inner.language_model(
            inputs_embeds=torch.cat(parts, dim=1),
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
        ).last_hidden_state
        return hidden[:, -text_ids.shape[1] :]


def export(model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> int:
    """Write a folder that `transformers` and `foveate` both load; weights in float16. Returns the weights' bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    config = model.config
    config.architectures = ["LlavaForConditionalGeneration"]
    config.dtype = "float16"
    config.save_pretrained(folder)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.generation_config.save_pretrained(folder)
    image = {
        "image_processor_type": "LlavaImageProcessor",
        "do_pad": True,
        "do_resize": True,
        "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "do_center_crop": False,
        "do_convert_rgb": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
    }
    processor = {
        "processor_class": "LlavaProcessor",
        "image_token": "<image>",
        "patch_size": PATCH,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }
    for name, content in (("preprocessor_config.json", image), ("processor_config.json", processor)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    weights = {
        name: value.detach().to(torch.float16).contiguous()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"  # tied to the token embedding
    }
    path = folder / "model.safetensors"
    save_file(weights, path, metadata={"format": "pt"})
    return path.stat().st_size
