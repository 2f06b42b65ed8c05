"""The next token from a row of logits, by one request's parameters.

Owns bias, penalties, filters, the draw and log-probabilities. Every answer has its own generator, so a seed
gives the same answer whatever shares the batch. Knows no scheduling and no text. Order of operations: bias,
ban of stops below min_tokens, penalties, constraint, temperature, top-k, top-p, min-p.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch

from foveate.engine.request import SamplingParameters, TokenLogprob


class TokenConstraint(Protocol):
    """Constrained output: which ids may come next. `constraints.py` has the one for grammars."""

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ends here whatever its parameters say; None while it may go on."""
        ...

    def allowed(self) -> torch.Tensor:
        """[V] booleans; at least one that is no stop is True while `finish_reason` is None."""
        ...

    def advance(self, token_id: int) -> None:
        """This id was chosen."""
        ...


def answer_seed(seed: int, index: int) -> int:
    """The seed of answer `index`: the request's own for the first, unrelated ones for the others."""
    if index == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little")


def likeliest_tokens(logits: torch.Tensor) -> list[int]:
    """The argmax of every row of logits [n, V]; the first of equals."""
    if logits.device.type == "cpu":
        return logits.numpy().argmax(axis=-1).tolist()  # ten times as fast as torch's on a CPU
    return logits.argmax(dim=-1).tolist()


class TokenSampler:
    """Chooses the tokens of one answer.

    Args:
        prompt_ids: count for the repetition penalty.
        stop_ids: banned while fewer than `min_tokens` were chosen.
        constraint: None, or what limits the choice.
    """

    def __init__(
        self,
        parameters: SamplingParameters,
        prompt_ids: Sequence[int],
        stop_ids: Iterable[int],
        *,
        seed: int,
        constraint: TokenConstraint | None = None,
    ) -> None:
        self._parameters = parameters
        self._stop_ids = sorted(stop_ids)
        self._constraint = constraint
        self._seen = set(prompt_ids) if parameters.repetition_penalty != 1 else set()
        self._counts: dict[int, int] = {}
        self._chosen = 0
        self._generator = torch.Generator().manual_seed(seed) if parameters.temperature > 0 else None

    @property
    def finish_reason(self) -> str | None:
        """Why the constraint ends the answer after the last token; None where it does not, or there is none."""
        return None if self._constraint is None else self._constraint.finish_reason

    def choose(self, logits: torch.Tensor, likeliest: int | None = None) -> tuple[int, TokenLogprob | None]:
        """The next id from logits [V], and its log-probability where asked for; `likeliest` is the argmax of
        the logits where the caller knows it."""
        token = self._pick(logits, likeliest)
        logprob = self._logprob(logits, token)
        self._chosen += 1
        self._counts[token] = self._counts.get(token, 0) + 1
        if self._constraint is not None:
            self._constraint.advance(token)
        return token, logprob

    def _pick(self, row: torch.Tensor, likeliest: int | None) -> int:
        logits = self._adjusted(row)
        if self._generator is None:
            return likeliest if logits is row and likeliest is not None else int(logits.argmax())
        # Drawn on the CPU in double precision, so that a seed gives the same text on every device.
        exact = logits.double().cpu()
        # Less the largest first: a temperature next to 0 would make it infinite, and then nothing is a number.
        probabilities = ((exact - exact.max()) / self._parameters.temperature).softmax(dim=-1)
        ordered, order = probabilities.sort(descending=True, stable=True)
        parameters = self._parameters
        outside = torch.zeros_like(ordered, dtype=torch.bool)
        if parameters.top_k:
            outside[parameters.top_k :] = True
        if parameters.top_p < 1:
            kept = ordered.masked_fill(outside, 0)
            kept = kept / kept.sum()
            outside |= kept.cumsum(0) - kept >= parameters.top_p
        if parameters.min_p:
            outside |= ordered < parameters.min_p * ordered[0]
        return int(order[torch.multinomial(ordered.masked_fill(outside, 0), 1, generator=self._generator)])

    def _adjusted(self, logits: torch.Tensor) -> torch.Tensor:
        """A copy of logits [V] with bias, bans, penalties and constraint applied; the row itself if none."""
        parameters = self._parameters
        banned = self._stop_ids if self._chosen < parameters.min_tokens else []
        seen = self._seen | self._counts.keys() if parameters.repetition_penalty != 1 else set()
        additive = bool(parameters.presence_penalty or parameters.frequency_penalty) and bool(self._counts)
        if not (parameters.logit_bias or banned or seen or additive or self._constraint is not None):
            return logits
        logits = logits.clone()
        if parameters.logit_bias:
            ids = _indices(parameters.logit_bias, logits)
            logits[ids] += logits.new_tensor(list(parameters.logit_bias.values()))
        if seen:
            ids = _indices([token for token in sorted(seen) if token < logits.shape[0]], logits)
            values, penalty = logits[ids], parameters.repetition_penalty
            logits[ids] = torch.where(values > 0, values / penalty, values * penalty)
        if additive:
            counts = logits.new_tensor(list(self._counts.values()))
            logits[_indices(self._counts, logits)] -= (
                parameters.presence_penalty + parameters.frequency_penalty * counts
            )
        if banned:
            logits[_indices(banned, logits)] = float("-inf")
        if self._constraint is not None:
            logits.masked_fill_(~self._constraint.allowed().to(logits.device), float("-inf"))
        return logits

    def _logprob(self, logits: torch.Tensor, token: int) -> TokenLogprob | None:
        wanted = self._parameters.top_logprobs
        if wanted is None:
            return None
        logprobs = logits.double().log_softmax(dim=-1)
        best = logprobs.topk(min(wanted, logprobs.shape[0]))
        top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        return TokenLogprob(token_id=token, logprob=float(logprobs[token]), top=top)


def _indices(ids: Iterable[int], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(list(ids), dtype=torch.long, device=like.device)
