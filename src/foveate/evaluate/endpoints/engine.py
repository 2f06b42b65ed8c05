"""Our engine as a model to evaluate, in this process; items asked at the same time are batched by it.

Owns what names an answer (token ids, pixels as the tower gets them, parameters, weights and their configuration,
code) and what a reply tells. Knows no tasks and no run.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.engine import AsyncEngine, EngineConfig, SamplingParameters, VisualBudget
from foveate.engine.threads import release_team
from foveate.evaluate.contract import EvaluationError, Message, Parameters, Picture, Reply
from foveate.evaluate.provenance import describe_model
from foveate.evaluate.run.records import last_question
from foveate.models.digest import code_digest, configuration_digest
from foveate.reduce.budget import Budget
from foveate.serve.trace import frame_of

if TYPE_CHECKING:
    import torch

    from foveate.engine import Completion, RequestStatistics
    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import PreparedMedia, Prompt

# Rooms whose code decides what a model answers.
ANSWERING = ("media", "models", "reduce", "decode", "engine")
# Facts of the model that do: the same question to a model with another of these is another question.
_DECIDING = ("weights_sha256", "configuration_sha256", "dtype", "device", "quantisation")
_SMALL_CONTEXT = 8192  # tokens


class EngineModel:
    """`model = EngineModel(load(...)); await model.complete(messages, parameters)`; close it in the end.

    Args:
        model: a loaded checkpoint.
        concurrency: answers that run at once.
    """

    def __init__(self, model: VisionLanguageModel, *, concurrency: int = 8) -> None:
        self.model = model
        # Room for as many conversations of a small context, and no more; of a large one, what memory allows.
        context = model.context_length
        blocks = concurrency * -(-context // EngineConfig().block_size) if context <= _SMALL_CONTEXT else None
        self._config = EngineConfig(max_sequences=concurrency, kv_blocks=blocks)
        self._engine: AsyncEngine | None = None
        self._count = 0
        # The hub's name where there is one: in a hub's cache the folder is called after a commit.
        name = Path(model.ref).name if Path(model.ref).exists() else model.ref
        self._facts = {
            "kind": "engine",
            **describe_model(model),
            "configuration_sha256": configuration_digest(model),
            "name": name,
            "code": code_digest(ANSWERING)[:16],
        }

    def describe(self) -> dict[str, Any]:
        """Name, SHA-256 of the weights and of the files beside them, dtype, device, code."""
        return dict(self._facts)

    def key(self, messages: Sequence[Message], parameters: Parameters) -> str:
        """See `contract.Model.key`; prepares the prompt, which `complete` then finds half done in the pixel cache.

        Raises:
            FoveateError: the conversation does not fit the model, or a picture cannot be opened.
        """
        prompt = self._prepare(messages, parameters)
        release_team()  # this is one of the runner's threads, beside the engine's
        facts = {
            "model": {name: self._facts[name] for name in _DECIDING},
            "code": self._facts["code"],
            "parameters": asdict(parameters),
            "question": last_question(messages) if _is_reduced(parameters) else "",
            "tokens": prompt.token_ids,
            "spans": prompt.spans,
            "pictures": [_pixels_digest(item) for item in prompt.media],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    async def complete(self, messages: Sequence[Message], parameters: Parameters) -> Reply:
        """See `contract.Model.complete`.

        Raises:
            FoveateError: the conversation does not fit, a picture cannot be opened, or the model fails on it.
        """
        if self._engine is None:
            self._engine = AsyncEngine(self.model, self._config)
            await self._engine.__aenter__()
        began = time.perf_counter()
        request_id = f"eval-{self._count}"
        self._count += 1
        prompts: list[Prompt] = []
        try:
            (answer,) = await self._engine.generate(
                plain_messages(messages),
                SamplingParameters(
                    max_tokens=parameters.max_tokens,
                    temperature=parameters.temperature,
                    seed=parameters.seed,
                ),
                visual=_visual(messages, parameters),
                on_prepared=prompts.append,
                request_id=request_id,
            )
        except (
            RuntimeError
        ) as error:  # torch's, out of memory among them: the engine goes on without the request
            raise EvaluationError("The model failed on this item", why=repr(error)) from error
        if answer.finish_reason in ("abort", "error"):
            raise EvaluationError("The model failed on this item", why="a step of the engine raised an error")
        found = self._engine.engine.request_statistics(request_id)
        assert found is not None, "the engine remembers a request that has just ended"
        return _reply(self.model, answer, found, prompts[0], time.perf_counter() - began)

    async def close(self) -> None:
        """Stops the engine."""
        if self._engine is not None:
            await self._engine.close()
            self._engine = None

    def _prepare(self, messages: Sequence[Message], parameters: Parameters) -> Prompt:
        return self.model.prepare(plain_messages(messages), to_be_reduced=_is_reduced(parameters))


def plain_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as `VisionLanguageModel.prepare` takes them: pictures opened."""
    return [
        {
            "role": message["role"],
            "content": message["content"]
            if isinstance(message["content"], str)
            else [_plain_part(part) for part in message["content"]],
        }
        for message in messages
    ]


def _plain_part(part: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(picture := part.get("image"), Picture):
        return {"type": "image", "image": picture.open()}
    return dict(part)


def _is_reduced(parameters: Parameters) -> bool:
    return parameters.visual_budget is not None and Budget.parse(parameters.visual_budget).kind != "full"


def _visual(messages: Sequence[Message], parameters: Parameters) -> VisualBudget | None:
    """The same record that the server makes of the request's fields."""
    if not _is_reduced(parameters):
        return None
    assert parameters.visual_budget is not None
    asked = VisualBudget(budget=Budget.parse(parameters.visual_budget), question=last_question(messages))
    if parameters.reducer is None:
        return asked
    return VisualBudget(budget=asked.budget, reducer=parameters.reducer, question=asked.question)


def _pixels_digest(item: PreparedMedia) -> str:
    """Of the tensors that the tower gets, names, types and shapes with them, and of how they are laid out."""
    digest = hashlib.sha256(repr(item.grid).encode())
    for name, tensor in sorted(item.tensors.items()):
        digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(_raw(tensor))
    return digest.hexdigest()


def _raw(tensor: torch.Tensor) -> bytes:
    import torch

    # Viewed as bytes: numpy has no bfloat16.
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _reply(
    model: VisionLanguageModel, answer: Completion, found: RequestStatistics, prompt: Prompt, total: float
) -> Reply:
    stages = {
        "prepare": found.preprocess_seconds,
        "queue": found.preprocess_wait_seconds + (found.queue_seconds or 0.0),
        "encode": found.encode_seconds,
        "prefill": found.prefill_seconds,
        "decode": found.decode_seconds,
        "first_token": found.time_to_first_token,
        "total": total,
    }
    return Reply(
        text=answer.text,
        finish_reason=answer.finish_reason or "stop",
        prompt_tokens=found.prompt_tokens,
        generated_tokens=found.generated_tokens,
        image_tokens=found.image_tokens,
        image_tokens_kept=found.image_tokens_kept,
        cached_tokens=found.cached_tokens,
        seconds={name: value for name, value in stages.items() if value is not None},
        pictures=tuple(_picture_facts(model, item) for item in prompt.media),
    )


def _picture_facts(model: VisionLanguageModel, item: PreparedMedia) -> dict[str, Any]:
    """The picture that was handed over, and what the model's processor made of it: its size then, and which part."""
    return {
        "width": item.width,
        "height": item.height,
        "codec": "none",
        "digest": item.digest[:16],
        "processed_width": item.grid.pixel_width,
        "processed_height": item.grid.pixel_height,
        "frame": list(frame_of(model, item)),
    }
