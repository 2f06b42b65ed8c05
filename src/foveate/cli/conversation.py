"""One conversation with one model: its history, its pictures, and what each answer cost.

Owns the messages and what is reported of an answer; the engine makes the answer and measures its stages. Does not
print, read keys or parse arguments.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from foveate.cli.terminal import count, seconds
from foveate.errors import FoveateError

if TYPE_CHECKING:
    from foveate.engine import Engine, RequestStatistics
    from foveate.media import Image, Video
    from foveate.models.records import PreparedMedia, Prompt
    from foveate.reduce import KeepMap


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How answers are drawn; the flags of `foveate chat` take their defaults from here."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        # Checked here, so that it is said before a model is loaded.
        for flag, value, valid, allowed in (
            ("--max-tokens", self.max_tokens, self.max_tokens >= 1, "1 or more"),
            ("--temperature", self.temperature, 0 <= self.temperature < math.inf, "0 (greedy) or more"),
            ("--top-p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1"),
        ):
            if not valid:
                raise FoveateError(f"{flag} is {value}", why=f"it must be {allowed}", fix="Correct the flag.")


@dataclass(frozen=True, kw_only=True)
class VisualSettings:
    """How many visual tokens of each picture the language model sees, and by which method they are chosen."""

    budget: str = "full"
    reducer: str = "fastervlm"

    def __post_init__(self) -> None:
        # Checked here, so that it is said before a model is loaded; the picture's own limit comes later.
        from foveate.reduce.budget import Budget
        from foveate.reduce.registry import find

        Budget.parse(self.budget)
        find(self.reducer)


@dataclass(frozen=True, kw_only=True)
class Speculated:
    """What guessing ahead brought to one answer; see `engine.RequestStatistics`."""

    draft: str
    accepted_length: float | None
    decode_passes: int
    plain_passes: int
    unpaid_passes: int
    draft_tokens: int
    accepted_tokens: int
    speedup: float | None

    def summary(self) -> str:
        """A few words for the line below an answer."""
        if not self.draft_tokens:
            why = "it would not pay" if self.unpaid_passes else "it had no guess"
            return f"{self.draft}: {why}"
        text = f"{self.accepted_length:.2f} tokens a pass by {self.draft}"
        if self.speedup is not None:
            text += f", about {self.speedup:.1f} times as fast"
        if self.unpaid_passes:
            text += f" ({self.unpaid_passes} of {self.decode_passes} passes plain: drafts would not pay)"
        return text


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer and its cost.

    Attributes:
        finish_reason: "stop" (the model ended), "length" (max_tokens), "context" (window full),
            "interrupted" (Ctrl-C).
        prompt_tokens: all tokens before the answer, visual ones included.
        media: pictures and videos of the conversation as the model looked at them, in order: a video is one, or as
            many pictures as it has frames.
        image_tokens: visual tokens of each, before any is dropped.
        kept_tokens: of those, the ones the language model saw.
        keep_maps: which those are, of each; None where all are.
        completion_tokens: tokens of the answer, the end marker not counted.
        cached_tokens: prompt tokens whose keys and values an earlier turn had left.
        prepare: seconds for template, pixel processing and placeholders.
        encode: seconds in the vision tower; 0 where every picture was known.
        prefill: seconds over the rest of the prompt; 0 where the answer was stopped before its first token.
        decode: seconds from the first token to the end.
        first_token: seconds from the question to the first token: prepare, encode and prefill.
        total: seconds from the question to the end.
        tokens_per_second: decoding steps after the first token by the time they took; None where there was
            none.
        speculation: what guessing ahead brought; None where the engine does not.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    image_tokens: tuple[int, ...]
    kept_tokens: tuple[int, ...]
    keep_maps: tuple[KeepMap | None, ...]
    completion_tokens: int
    cached_tokens: int
    prepare: float
    encode: float
    prefill: float
    decode: float
    first_token: float
    total: float
    tokens_per_second: float | None
    speculation: Speculated | None = None
    media: tuple[PreparedMedia, ...] = ()

    def summary(self) -> str:
        """The line printed below an answer."""
        seen = count(sum(self.image_tokens), "image token")
        if self.kept_tokens != self.image_tokens:
            seen = f"{sum(self.kept_tokens):,} of {seen}"
        parts = [
            seen,
            count(self.prompt_tokens, "prompt token"),
            count(self.completion_tokens, "new token"),
        ]
        if self.tokens_per_second is not None:
            parts.append(f"{self.tokens_per_second:.1f} tokens/s")
        if self.speculation is not None:
            parts.append(self.speculation.summary())
        if self.cached_tokens:
            parts[1] += f" ({self.cached_tokens:,} cached)"
        stages = [("prepare", self.prepare), ("encode", self.encode), ("prefill", self.prefill)]
        spent = ", ".join(f"{name} {seconds(value)}" for name, value in stages if value)
        parts.append(f"first token {seconds(self.first_token)} ({spent})")
        if self.finish_reason != "stop":
            parts.append(STOPPED[self.finish_reason])
        return " · ".join(parts)


STOPPED = {
    "length": "cut at --max-tokens",
    "context": "cut where the context window ends",
    "interrupted": "stopped by Ctrl-C",
}


class Conversation:
    """A history that grows by question and answer; pictures and videos attached go with the next question."""

    def __init__(
        self,
        engine: Engine,
        settings: SamplingSettings,
        *,
        system: str | None = None,
        visual: VisualSettings | None = None,
    ) -> None:
        self.engine, self.model = engine, engine.model
        self.visual = visual or VisualSettings()
        self.settings = settings
        self.system = system
        self.answers: list[Answer] = []
        self.pending: list[Image | Video] = []
        self.images: list[Image | Video] = []
        self._turns: list[dict[str, Any]] = []
        self._asked = 0

    def reset(self) -> None:
        """Forget turns and pictures; the system prompt stays."""
        self._turns, self.images, self.pending, self.answers = [], [], [], []

    def attach(self, image: Image | Video) -> int:
        """Put a picture or video with the next question.

        Returns:
            the visual tokens it will take.
        """
        if not self.model.accepts_images:
            raise FoveateError(
                f"{image.source} cannot be attached",
                why=f"{self.model.ref} is a text-only model",
                fix="Choose a vision-language model: foveate ls",
            )
        from foveate.media import Video
        from foveate.models.media_parts import tokens_of

        others = sum(not isinstance(one, Video) for one in (*self.images, *self.pending))
        tokens = tokens_of(self.model, image, others)
        self.pending.append(image)
        return tokens

    def ask(
        self,
        question: str,
        *,
        on_text: Callable[[str], None] = lambda text: None,
        interruptible: bool = False,
    ) -> Answer:
        """Answer a question about the pictures and videos so far.

        Args:
            on_text: called with each piece of text as it is decoded.
            interruptible: keep what was said when Ctrl-C comes, instead of passing KeyboardInterrupt on.

        Raises:
            PromptError: the conversation does not fit the model. The history is then as before, pictures
                still
                waiting.
        """
        from foveate.engine import SamplingParameters, VisualBudget
        from foveate.media import Video

        start = time.perf_counter()
        images = [*self.images, *self.pending]
        turn = {"role": "user", "content": self._content(question)}
        prompt = self.model.prepare(
            self._messages(turn),
            images=[one for one in images if not isinstance(one, Video)],
            videos=[one for one in images if isinstance(one, Video)],
            to_be_reduced=str(self.visual.budget) != "full",
        )
        self._asked += 1
        request_id = f"question-{self._asked}"
        stream = self.engine.stream(
            prompt,
            SamplingParameters(**asdict(self.settings)),
            request_id=request_id,
            preprocess_seconds=time.perf_counter() - start,
            visual=VisualBudget(budget=self.visual.budget, reducer=self.visual.reducer, question=question),
        )
        pieces: list[str] = []
        reason, tokens = "interrupted", 0
        try:
            for output in stream:
                ended = output.finish_reason == "stop"  # the end marker is no token of the answer
                tokens += len(output.token_ids) - ended
                reason = output.finish_reason or reason
                # Some tokenizers open an answer with a space that belongs to the template.
                text = output.text if pieces else output.text.lstrip()
                if text:
                    pieces.append(text)
                    on_text(text)
        except KeyboardInterrupt:
            if not interruptible:
                raise
            reason = "interrupted"
        finally:
            stream.close()  # frees what the request held, whatever ended it
        statistics = self.engine.request_statistics(request_id)
        if statistics is None:  # stopped before the engine had it: nothing was asked
            raise KeyboardInterrupt
        total = time.perf_counter() - start
        keep_maps = self.engine.keep_maps(request_id)
        answer = self._answer(prompt, "".join(pieces), reason, tokens, statistics, keep_maps, total)
        if reason == "interrupted" and not answer.text:
            return answer  # nothing was said: the question may be asked again as it was
        self.images, self.pending = images, []
        self._turns += [turn, {"role": "assistant", "content": [{"type": "text", "text": answer.text}]}]
        self.answers.append(answer)
        return answer

    def _content(self, question: str) -> list[dict[str, str]]:
        # Pictures first: the order LLaVA was trained with, and the one every family's template accepts.
        from foveate.media import Video

        kinds = ("video" if isinstance(one, Video) else "image" for one in self.pending)
        return [*({"type": kind} for kind in kinds), {"type": "text", "text": question}]

    def _messages(self, turn: dict[str, Any]) -> list[dict[str, Any]]:
        system = (
            [{"role": "system", "content": [{"type": "text", "text": self.system}]}] if self.system else []
        )
        return [*system, *self._turns, turn]

    @staticmethod
    def _answer(
        prompt: Prompt,
        text: str,
        reason: str,
        tokens: int,
        statistics: RequestStatistics,
        keep_maps: tuple[KeepMap | None, ...],
        total: float,
    ) -> Answer:
        decode, steps = statistics.decode_seconds or 0.0, statistics.generated_tokens - 1
        first_token = statistics.time_to_first_token
        return Answer(
            text=text.strip(),
            finish_reason=reason,
            prompt_tokens=statistics.prompt_tokens,
            image_tokens=tuple(media.grid.tokens for media in prompt.media),
            kept_tokens=tuple(
                media.grid.tokens if keep is None else keep.count
                for media, keep in zip(prompt.media, keep_maps, strict=True)
            ),
            keep_maps=keep_maps,
            completion_tokens=tokens,
            cached_tokens=statistics.cached_tokens,
            prepare=statistics.preprocess_seconds,
            encode=statistics.encode_seconds,
            prefill=statistics.prefill_seconds or 0.0,
            decode=decode,
            first_token=total if first_token is None else first_token,
            total=total,
            tokens_per_second=steps / decode if steps > 0 and decode > 0 else None,
            speculation=_speculated(statistics),
            media=tuple(prompt.media),
        )


def _speculated(statistics: RequestStatistics) -> Speculated | None:
    if not statistics.draft:
        return None
    return Speculated(**{entry.name: getattr(statistics, entry.name) for entry in fields(Speculated)})
