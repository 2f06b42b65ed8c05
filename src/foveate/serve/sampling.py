"""From a request's fields to the engine's sampling parameters.

Owns the defaults of what a request does not say: the checkpoint's own where it has some, else OpenAI's. Knows no HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foveate.engine import OutputConstraint, SamplingParameters
from foveate.serve.errors import ApiError
from foveate.serve.protocol.common import ClassicSamplingFields, SamplingFields
from foveate.serve.settings import ServeSettings

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel


@dataclass(frozen=True, kw_only=True)
class SamplingDefaults:
    """What the checkpoint's generation_config.json says; greedy where it does not ask for drawing."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0

    @classmethod
    def of(cls, model: VisionLanguageModel) -> SamplingDefaults:
        """Those of a model."""
        config = getattr(model.hf_model, "generation_config", None)
        if config is None or not getattr(config, "do_sample", False):
            return cls()
        return cls(
            temperature=float(_or(config.temperature, 1.0)),
            top_p=float(_or(config.top_p, 1.0)),
            top_k=int(_or(config.top_k, 0)),
        )


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def sampling_parameters(
    request: SamplingFields,
    settings: ServeSettings,
    defaults: SamplingDefaults,
    *,
    max_tokens: int | None,
    top_logprobs: int | None = None,
    constraint: OutputConstraint | None = None,
) -> SamplingParameters:
    """The engine's parameters.

    Raises:
        ApiError: more tokens than the server allows, or a key of logit_bias that is no token id.
        RequestError: values that do not go together.
    """
    if max_tokens is not None and max_tokens > settings.max_output_tokens:
        raise ApiError(
            f"The request asks for {max_tokens} tokens",
            why=f"this server gives {settings.max_output_tokens} at most",
            fix="Ask for fewer.",
            param="max_tokens",
            code="max_tokens_exceeded",
        )
    chosen = settings.default_max_tokens if max_tokens is None else max_tokens
    fields: dict[str, Any] = {
        "max_tokens": max(chosen, request.min_tokens or 0) if max_tokens is None else chosen,
        "min_tokens": request.min_tokens or 0,
        "temperature": _or(request.temperature, defaults.temperature),
        "top_p": _or(request.top_p, defaults.top_p),
        "top_k": max(0, _or(request.top_k, defaults.top_k)),
        "min_p": request.min_p or 0.0,
        "repetition_penalty": _or(request.repetition_penalty, 1.0),
        "seed": request.seed,
        "stop_token_ids": tuple(request.stop_token_ids or ()),
        "ignore_end": bool(request.ignore_eos),
        "include_stop": bool(request.include_stop_str_in_output),
        "top_logprobs": top_logprobs,
        "constraint": constraint,
        "speculate": request.speculate is not False,
    }
    if isinstance(request, ClassicSamplingFields):
        stop = request.stop or ()
        n = request.n or 1
        if n > 1 and request.temperature is None and fields["temperature"] == 0:
            fields["temperature"] = 1.0  # greedy answers would all be the same
        fields |= {
            "stop": (stop,) if isinstance(stop, str) else tuple(stop),
            "presence_penalty": request.presence_penalty or 0.0,
            "frequency_penalty": request.frequency_penalty or 0.0,
            "logit_bias": _biases(request.logit_bias or {}),
            "n": n,
        }
    return SamplingParameters(**fields)


def _biases(given: dict[str, float]) -> dict[int, float]:
    """JSON has no numbers as keys."""
    for key in given:
        if not (key.isascii() and key.isdecimal() and len(key) < 10):
            raise ApiError(
                f"logit_bias names {key[:40]!r}",
                why="its keys are ids of tokens",
                fix="/tokenize gives the ids of a text.",
                param="logit_bias",
                code="invalid_value",
            )
    return {int(key): float(bias) for key, bias in given.items()}
