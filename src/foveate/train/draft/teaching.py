"""The target in the loop: the engine answers prompts, and what it computed on the way becomes the lesson.

Owns the recorder, a draft that proposes nothing and keeps all it is shown. A head is shown the same records when it
drafts, so features, chunks of prompts and positions of every family are here what they will be there. Knows no heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from foveate.decode.drafts.base import Draft, DraftRequest, Observation
from foveate.decode.heads.layout import HeadLayout, layout_of
from foveate.decode.tree import DraftTree
from foveate.engine import Engine, EngineConfig, SamplingParameters
from foveate.train.draft.prompts import DraftPrompt

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import Prompt

_CACHE_BYTES = 2**30  # a batch of prompts needs no more on small models; larger ones wait for room
_STEP_TOKENS = 4096


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One prompt with the target's own reply.

    m rows were run by the target; the reply's last token was not, so tokens has one more where the reply ended.

    Attributes:
        kind: of the prompt.
        tokens: ids, prompt and reply.
        layout: of the m rows: where the pictures lie, and how many belong to the prompt.
        embeds: [m, D] what entered the language model.
        hidden: [m, D] after the last norm.
        taps: [m, D] by layer.
    """

    kind: str
    tokens: tuple[int, ...]
    layout: HeadLayout
    embeds: Tensor
    hidden: Tensor
    taps: Mapping[int, Tensor]

    @property
    def reply_length(self) -> int:
        """Tokens of the reply, the one that ended it included."""
        return len(self.tokens) - self.layout.prompt


class Recorder(Draft):
    """Keeps every observation, and never guesses.

    Attributes:
        kept: by the identity of the prompt, the observations of its answer in order.
    """

    name = "recorder"
    observes = True

    def __init__(self, tap_layers: Sequence[int] = ()) -> None:
        self.tap_layers = tuple(tap_layers)
        self.kept: dict[int, list[Observation]] = {}

    def propose(self, requests: Sequence[DraftRequest]) -> list[DraftTree]:
        return [DraftTree()] * len(requests)

    def observe(self, observations: Sequence[Observation]) -> None:
        for one in observations:
            held = self.kept.setdefault(id(one.prompt), [])
            while held and held[-1].start >= one.start:  # the answer gave up its place and is computed anew
                held.pop()
            assert one.start == (held[-1].start + len(held[-1].tokens) if held else 0), "without a gap"
            held.append(one)


class Teacher:
    """Answers prompts with the target.

    Args:
        tap_layers: layers whose states the heads read.
        reply_tokens: longest reply.
        at_once: replies that run in one step of the engine.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        *,
        tap_layers: Sequence[int] = (),
        reply_tokens: int = 96,
        at_once: int = 64,
    ) -> None:
        self.model, self._reply_tokens = model, reply_tokens
        self._recorder = Recorder(tap_layers)
        self._engine = Engine(
            model,
            EngineConfig(
                # Tokens from the prefix cache are not run, so a draft sees nothing of them.
                prefix_caching=False,
                pack_weights=False,
                max_sequences=at_once,
                max_step_tokens=max(_STEP_TOKENS, 2 * at_once),
                memory_bytes=_CACHE_BYTES if model.device.type == "cpu" else None,
            ),
            draft=self._recorder,
        )

    def teach(self, prompts: Sequence[DraftPrompt], *, sampled: float = 0.0) -> list[Lesson]:
        """A lesson for each prompt, in order.

        Args:
            sampled: share of replies drawn at temperature 1, each by its prompt's seed; the rest are greedy.

        Raises:
            FoveateError: a prompt that cannot be served (too long for the context or the cache).
        """
        prepared = [self.model.prepare(one.messages, images=one.images) for one in prompts]
        names = [
            self._engine.add_request(prompt, self._parameters(one, sampled))
            for prompt, one in zip(prepared, prompts, strict=True)
        ]
        answers = self._engine.run_to_completion()
        kept, self._recorder.kept = self._recorder.kept, {}
        return [
            self._lesson(one.kind, [*prompt.token_ids, *answers[name][0].token_ids], prompt, kept[id(prompt)])
            for one, prompt, name in zip(prompts, prepared, names, strict=True)
        ]

    def _parameters(self, prompt: DraftPrompt, sampled: float) -> SamplingParameters:
        # The seed is uniform, so its low bits decide as a die would.
        drawn = prompt.seed % 4096 < math.ceil(4096 * sampled)
        return SamplingParameters(max_tokens=self._reply_tokens, temperature=float(drawn), seed=prompt.seed)

    def _lesson(self, kind: str, tokens: list[int], prompt: Prompt, kept: Sequence[Observation]) -> Lesson:
        """One answer's observations, joined."""
        hidden = torch.cat([one.hidden for one in kept])
        rows = hidden.shape[0]
        assert rows in (len(tokens), len(tokens) - 1), (rows, len(tokens))
        return Lesson(
            kind=kind,
            tokens=tuple(tokens),
            layout=layout_of(prompt, self.model.visual_token_ids, length=rows),
            embeds=torch.cat([one.embeds for one in kept]),
            hidden=hidden,
            taps={layer: torch.cat([one.taps[layer] for one in kept]) for layer in self._recorder.tap_layers},
        )
