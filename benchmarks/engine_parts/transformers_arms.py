"""Plain transformers as users run it: `generate` one by one, `generate` in padded batches, a bare forward loop.

Owns a model of its own, loaded with the library's defaults (SDPA attention); knows nothing of foveate.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from engine_parts.workload import Item, picture


class _FirstToken:
    """A streamer that remembers when the first token came; `generate` hands it the prompt before that."""

    def __init__(self) -> None:
        self.calls, self.time = 0, 0.0

    def put(self, value: torch.Tensor) -> None:
        self.calls += 1
        if self.calls == 2:
            self.time = time.perf_counter()

    def end(self) -> None:
        pass


class TransformersArms:
    """Args:
    folder: checkpoint with a processor.
    """

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        auto = transformers.AutoModelForImageTextToText
        self.model = auto.from_pretrained(folder, dtype=dtype, local_files_only=True).eval()
        self.processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)
        self.processor.tokenizer.padding_side = "left"
        if self.processor.tokenizer.pad_token is None:
            self.processor.tokenizer.pad_token = self.processor.tokenizer.eos_token
        settings = self.model.generation_config
        settings.pad_token_id = self.processor.tokenizer.pad_token_id
        settings.eos_token_id = None  # lengths are given, in every arm

    def inputs(self, items: Sequence[Item], images: Sequence[Any]) -> Any:
        """Tensors of one padded batch."""
        texts = [
            self.processor.apply_chat_template(item.messages, add_generation_prompt=True) for item in items
        ]
        made = self.processor(
            text=texts, images=[[image] for image in images], padding=True, return_tensors="pt"
        )
        return made.to(self.model.dtype)

    @torch.inference_mode()
    def sequential(self, items: Sequence[Item]) -> dict[str, Any]:
        """One `generate` after the other; also each request's seconds to its first token and to its end."""
        images = [picture(item.picture) for item in items]
        answers, first, whole = [], [], []
        for item, image in zip(items, images, strict=True):
            began, streamer = time.perf_counter(), _FirstToken()
            inputs = self.inputs([item], [image])
            output = self.model.generate(
                **inputs, max_new_tokens=item.output_tokens, do_sample=False, streamer=streamer
            )
            whole.append(time.perf_counter() - began)
            first.append(streamer.time - began)
            answers.append(output[0, inputs["input_ids"].shape[1] :].tolist())
        return {"seconds": sum(whole), "token_ids": answers, "first_token": first, "whole": whole}

    @torch.inference_mode()
    def static(self, items: Sequence[Item], size: int) -> dict[str, Any]:
        """Padded batches in order of arrival; each runs to its longest answer, what is too much is cut."""
        images = [picture(item.picture) for item in items]
        answers, began = [], time.perf_counter()
        for start in range(0, len(items), size):
            batch = items[start : start + size]
            inputs = self.inputs(batch, images[start : start + size])
            longest = max(item.output_tokens for item in batch)
            output = self.model.generate(**inputs, max_new_tokens=longest, do_sample=False)
            new = output[:, inputs["input_ids"].shape[1] :].tolist()
            answers += [row[: item.output_tokens] for row, item in zip(new, batch, strict=True)]
        return {"seconds": time.perf_counter() - began, "token_ids": answers}

    @torch.inference_mode()
    def bare_loop(self, item: Item, *, static: bool) -> dict[str, Any]:
        """A hand-written greedy loop over `forward`; seconds are of decoding, without the prompt.

        Args:
            static: with a StaticCache of exactly the length needed; else the default, which grows.
        """
        inputs = self.inputs([item], [picture(item.picture)])
        config = self.model.config.get_text_config()
        length = inputs["input_ids"].shape[1] + item.output_tokens
        cache = (
            transformers.StaticCache(config=config, max_cache_len=length)
            if static
            else transformers.DynamicCache(config=config)
        )
        output = self.model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
        tokens = [output.logits[:, -1:].argmax(dim=-1)]
        began = time.perf_counter()
        for _ in range(item.output_tokens - 1):
            output = self.model(input_ids=tokens[-1], past_key_values=cache, use_cache=True)
            tokens.append(output.logits[:, -1:].argmax(dim=-1))
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "token_ids": torch.cat(tokens, dim=1)[0].tolist()}
