"""A model that knows nothing, held to a constraint, over small tokenizers of every kind."""

from __future__ import annotations

from functools import cache
from typing import Any

import fake_tokenizers
import torch

from foveate.engine.constraints import ConstraintCompiler
from foveate.engine.request import OutputConstraint, SamplingParameters
from foveate.engine.sampling import TokenSampler
from foveate.engine.text import TextStream

END = 0
PADDING = 13  # rows of a model's head beyond its tokenizer
KINDS = tuple(fake_tokenizers.KINDS)
WITH_ALL_BYTES = ("byte level", "byte fallback")


@cache
def setting(kind: str) -> tuple[Any, int, ConstraintCompiler]:
    tokenizer = fake_tokenizers.KINDS[kind]()
    size = len(tokenizer) + PADDING
    return tokenizer, size, ConstraintCompiler(tokenizer, size)


def write(kind: str, constraint: OutputConstraint, seed: int = 0, **fields: Any) -> tuple[str, str | None]:
    """(text, why it ended) of a model that knows nothing, held to the constraint."""
    tokenizer, size, compiler = setting(kind)
    parameters = SamplingParameters(**{"max_tokens": 300, "temperature": 1.0, **fields})
    stops = () if parameters.ignore_end else (END,)
    made = compiler.prepare(constraint, stops)()
    sampler = TokenSampler(parameters, (), stops, seed=seed, constraint=made)
    stream, text = TextStream(tokenizer), ""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(parameters.max_tokens):
        token, _ = sampler.choose(3 * torch.randn(size, generator=generator))
        assert token < len(tokenizer), "padding was chosen"
        if token == END:
            return text + stream.flush()[0], "stop"
        assert token not in tokenizer.all_special_ids
        text += stream.push(token)[0]
        if sampler.finish_reason is not None:
            return text + stream.flush()[0], sampler.finish_reason
    return text + stream.flush()[0], None


def follow(kind: str, constraint: OutputConstraint, ids: list[int]) -> bool:
    """Whether these ids may be chosen one after the other, and the answer end there."""
    made = setting(kind)[2].prepare(constraint, (END,))()
    for token in ids:
        if made.finish_reason is not None or not made.allowed()[token]:
            return False
        made.advance(token)
    return made.finish_reason == "stop" or bool(made.allowed()[END])
