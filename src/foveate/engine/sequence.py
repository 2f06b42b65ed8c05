"""One answer on its way: what is decided, what is computed, what it holds.

Owns the state of a request's n-th answer between steps. Knows no scheduling policy. A preempted sequence keeps
everything but its blocks: tokens, text, random generator; so nothing is lost but time.
"""

from __future__ import annotations

import enum
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foveate.engine.layout import PromptLayout
    from foveate.engine.request import Request, TokenLogprob
    from foveate.engine.sampling import TokenSampler
    from foveate.engine.text import TextStream

_keys = itertools.count(1)


class Status(enum.StrEnum):
    """Where a sequence is."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class Sequence:
    """Answer `index` of a request.

    Attributes:
        key: its name in the state store.
        output: generated tokens.
        computed: tokens whose keys and values are in the cache.
        cached_tokens: prompt tokens that were found in the prefix cache at first admission.
        block_names: prefix-cache names of its full blocks, as far as they were asked for.
        pinned: images whose features it holds in the encoder cache.
        forks: answers that will split off when the prompt is complete.
        accepted: while a step tries drafts, the places in the state store of those that turned out right; else
            None.
    """

    def __init__(
        self,
        request: Request,
        layout: PromptLayout,
        *,
        index: int,
        sampler: TokenSampler,
        text: TextStream,
        forks: int = 0,
    ) -> None:
        self.key = next(_keys)
        self.request, self.layout, self.index = request, layout, index
        self.sampler, self.text, self.forks = sampler, text, forks
        self.status = Status.WAITING
        self.output: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.computed = 0
        self.cached_tokens: int | None = None
        self.block_names: list[bytes] = []
        self.pinned: set[int] = set()
        self.accepted: list[int] | None = None
        self.preemptions = 0
        self.finish_reason: str | None = None

    @property
    def urgency(self) -> tuple[int, int, int]:
        """Sorts the most urgent first: priority, arrival, number of the answer."""
        return (-self.request.priority, self.request.order, self.index)

    @property
    def length(self) -> int:
        """Tokens decided: prompt and answer."""
        return len(self.request.prompt.token_ids) + len(self.output)

    @property
    def pending(self) -> int:
        """Tokens decided but not computed."""
        return self.length - self.computed

    @property
    def is_decoding(self) -> bool:
        """Whether all that is missing is its newest token."""
        return bool(self.output) and self.pending == 1

    @property
    def slots(self) -> int:
        """Places among the running that it takes: its own and those of the answers to split off."""
        return 1 + self.forks

    def tokens(self, start: int, stop: int) -> list[int]:
        """Token ids [start, stop)."""
        prompt = self.request.prompt.token_ids
        if stop <= len(prompt):
            return prompt[start:stop]
        head = prompt[start:] if start < len(prompt) else []
        return head + self.output[max(0, start - len(prompt)) : stop - len(prompt)]
