"""Going on with an answer on a new engine, after the one that had begun it broke.

Owns when that is exact and how: the prompt with what was written behind it is computed anew (re-prefill), and the text
continues where the reader has it. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from foveate.engine import RequestStatistics, StepOutput
from foveate.models.generation import IncrementalDetokenizer
from foveate.serve.jobs import Job

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import Prompt

TRIES = 2  # a request that breaks every engine it meets is given up


def can_go_on(job: Job, written: Sequence[int], prompt: Prompt | None) -> bool:
    """Whether a new engine would write what the old one would have.

    A request that has nothing yet simply starts again. One that has must be greedy, alone, and without anything that
    looks back at the answer (penalties, stop strings, constraints): their state went with the old engine.
    """
    if not written:
        return True
    parameters = job.parameters
    return (
        prompt is not None
        and parameters.temperature == 0
        and parameters.n == 1
        and parameters.repetition_penalty == 1
        and not parameters.presence_penalty
        and not parameters.frequency_penalty
        and not parameters.stop
        and parameters.constraint is None
    )


class Continuation:
    """The rest of one answer.

    Args:
        prompt: as prepared for the first try.
        written: tokens that the reader has.
    """

    def __init__(self, model: VisionLanguageModel, job: Job, prompt: Prompt, written: Sequence[int]) -> None:
        self._words = IncrementalDetokenizer(model.tokenizer)
        for token in written:
            self._words.push(token)  # the reader has its text
        parameters = job.parameters
        self.job = replace(
            job,
            prompt=replace(prompt, token_ids=[*prompt.token_ids, *written]),
            parameters=replace(
                parameters,
                max_tokens=parameters.max_tokens - len(written),
                min_tokens=max(0, parameters.min_tokens - len(written)),
            ),
            visual=None
            if job.visual is None
            else replace(job.visual, question=job.visual.question or prompt.text),
        )

    def read(self, output: StepOutput) -> StepOutput:
        """The same output with the text as it goes on from before."""
        if output.finish_reason == "stop":  # the last token is no text
            text = self._words.flush()
        else:
            text = "".join(self._words.push(token) for token in output.token_ids)
            text += self._words.flush() if output.finish_reason is not None else ""
        return replace(output, text=text)


def whole_account(statistics: RequestStatistics, written: int) -> RequestStatistics:
    """The figures of the last try as those of the whole request: what was written before is answer, not prompt."""
    return replace(
        statistics,
        prompt_tokens=statistics.prompt_tokens - written,
        generated_tokens=statistics.generated_tokens + written,
    )
