"""Where time went, per request and for the engine, and the events that tell a listener as it happens.

Owns records and counting. Decides nothing; times are seconds on the engine's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate.engine.plan import StepPlan
    from foveate.engine.scheduler import Scheduler


@dataclass(frozen=True, kw_only=True)
class Event:
    """`kind`: "added", "admitted", "preempted", "first_token", "finished", "aborted" (with `request_id`) or
    "step". `data` carries what belongs to it; of "finished" and "aborted", the request's statistics."""

    kind: str
    time: float
    request_id: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]


@dataclass(kw_only=True)
class RequestStatistics:
    """One request. A stage that has not ended is None.

    Attributes:
        request_id: its name.
        prompt_tokens: tokens of the prompt, visual ones included.
        images: pictures in the prompt.
        image_tokens: visual tokens of the pictures before any were dropped.
        image_tokens_kept: those the language model sees.
        media_keys: names of the pictures in the caches.
        arrival: when the engine got it, prepared, on the engine's clock.
        preprocess_wait_seconds: waiting for a worker, before arrival.
        preprocess_seconds: a worker opening images, processing pixels, filling the template; before arrival.
        queue_seconds: arrival to first admission.
        encode_seconds: encoder stages of steps in which an image of this request was encoded.
        prefill_seconds: first admission to first token, encoding excluded.
        decode_seconds: first token to the end.
        time_to_first_token: seconds from the caller's view, preprocessing and its wait included.
        admitted, first_token, ended: when, on the engine's clock.
        cached_tokens: prompt tokens found in the prefix cache.
        encoded_images: images the encoder ran for; the others were cached, or covered by a cached prefix.
        generated_tokens: of all its answers.
        preemptions: times an answer gave up its blocks and was computed anew.
        draft: what guessed its next tokens; empty where nothing did, and then the rest is 0.
        decode_passes: passes of the model that gave an answer a token after its first, or several.
        plain_passes: of these, passes without a draft.
        unpaid_passes: of those, where drafting was not expected to pay.
        draft_tokens, accepted_tokens: guesses run, and those that were right.
        accepted_length: tokens a decoding pass gave, the model's own included; None before the first.
        pass_seconds: steps that did nothing but decode and gave it tokens, guessing included.
        plain_seconds: what the same tokens would have taken one by one, by the cost of steps seen here.
        speedup: the second by the first, an estimate; None before there is one.
    """

    request_id: str
    prompt_tokens: int
    images: int
    arrival: float
    image_tokens: int = 0
    image_tokens_kept: int = 0
    media_keys: tuple[str, ...] = ()
    preprocess_wait_seconds: float = 0.0
    preprocess_seconds: float = 0.0
    encode_seconds: float = 0.0
    admitted: float | None = None
    first_token: float | None = None
    ended: float | None = None
    cached_tokens: int = 0
    encoded_images: int = 0
    generated_tokens: int = 0
    preemptions: int = 0
    draft: str = ""
    decode_passes: int = 0
    plain_passes: int = 0
    unpaid_passes: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0
    pass_seconds: float = 0.0
    plain_seconds: float = 0.0

    @property
    def speedup(self) -> float | None:
        """Of decoding, by speculation."""
        return self.plain_seconds / self.pass_seconds if self.pass_seconds else None

    @property
    def accepted_length(self) -> float | None:
        """1 without speculation paying; None where nothing was decoded by an engine that speculates."""
        return 1 + self.accepted_tokens / self.decode_passes if self.decode_passes else None

    @property
    def queue_seconds(self) -> float | None:
        """None until admitted."""
        return None if self.admitted is None else self.admitted - self.arrival

    @property
    def prefill_seconds(self) -> float | None:
        """None until the first token."""
        if self.admitted is None or self.first_token is None:
            return None
        return self.first_token - self.admitted - self.encode_seconds

    @property
    def decode_seconds(self) -> float | None:
        """None until ended."""
        return None if self.first_token is None or self.ended is None else self.ended - self.first_token

    @property
    def time_to_first_token(self) -> float | None:
        """From the caller's view: preprocessing included."""
        if self.first_token is None:
            return None
        before = self.preprocess_wait_seconds + self.preprocess_seconds
        return before + self.first_token - self.arrival


@dataclass(kw_only=True)
class EngineStatistics:
    """Counters since the engine began, and what is in use now.

    Attributes:
        steps, failed_steps: steps done, and steps that raised.
        tokens: prompt and answer tokens run; by `steps`, the mean length of a packed batch.
        sequences: answers that took part in a step, summed; by `steps`, the mean batch size.
        largest_batch: most answers in one step.
        largest_step_tokens: most tokens in one step.
        step_seconds: all stages of all steps.
        longest_step_seconds: of the slowest step.
        encode_seconds, forward_seconds, sample_seconds: the three stages of the steps.
        draft_seconds: making guesses, before the stages.
        decode_passes, plain_passes, unpaid_passes, draft_tokens, accepted_tokens: as of a request, of all of them;
            0 where the engine does not speculate.
        encoded_images: images the encoder ran for.
        preemptions: answers that gave up their blocks and were computed anew.
        finished, aborted: requests by how they ended; failed ones are among the aborted.
        running, waiting: answers now.
        blocks, blocks_in_use, blocks_idle: of the key-value cache now; idle ones keep a prefix nobody uses.
        most_blocks_in_use: the peak at the end of a step.
        prefix_asked_tokens, prefix_hit_tokens: prompt tokens looked up in the prefix cache, and found.
        prefix_evictions: blocks the prefix cache gave up.
        encoder_hits, encoder_misses: images looked up in the encoder cache.
        encoder_evictions: images it gave up.
        encoder_bytes: what it holds now.
    """

    steps: int = 0
    tokens: int = 0
    sequences: int = 0
    step_seconds: float = 0.0
    longest_step_seconds: float = 0.0
    largest_batch: int = 0
    largest_step_tokens: int = 0
    encoded_images: int = 0
    encode_seconds: float = 0.0
    forward_seconds: float = 0.0
    sample_seconds: float = 0.0
    draft_seconds: float = 0.0
    decode_passes: int = 0
    plain_passes: int = 0
    unpaid_passes: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0
    preemptions: int = 0
    failed_steps: int = 0
    finished: int = 0
    aborted: int = 0
    running: int = 0
    waiting: int = 0
    blocks: int = 0
    blocks_in_use: int = 0
    blocks_idle: int = 0
    most_blocks_in_use: int = 0
    prefix_asked_tokens: int = 0
    prefix_hit_tokens: int = 0
    prefix_evictions: int = 0
    encoder_hits: int = 0
    encoder_misses: int = 0
    encoder_evictions: int = 0
    encoder_bytes: int = 0


class Meter:
    """Counts what an engine does."""

    def __init__(self, scheduler: Scheduler, tell: Callable[..., None]) -> None:
        self.counters = EngineStatistics()
        self._scheduler, self._tell = scheduler, tell

    def step(self, plan: StepPlan, encode: float, forward: float, sample: float, draft: float = 0.0) -> None:
        """One step was done; seconds of its three stages, and of guessing before them."""
        counters, in_use = self.counters, self._scheduler.store.pool.in_use
        counters.steps += 1
        counters.tokens += plan.tokens
        counters.sequences += len(plan.works)
        seconds = draft + encode + forward + sample
        counters.draft_seconds += draft
        counters.step_seconds += seconds
        counters.longest_step_seconds = max(counters.longest_step_seconds, seconds)
        counters.largest_batch = max(counters.largest_batch, len(plan.works))
        counters.largest_step_tokens = max(counters.largest_step_tokens, plan.tokens)
        counters.encoded_images += len(plan.encodes)
        counters.encode_seconds += encode
        counters.forward_seconds += forward
        counters.sample_seconds += sample
        counters.most_blocks_in_use = max(counters.most_blocks_in_use, in_use)
        self._tell(
            "step",
            phase=plan.phase,
            tokens=plan.tokens,
            sequences=len(plan.works),
            logit_rows=plan.logit_rows,
            state_bytes=plan.state_bytes,
            encoded_images=len(plan.encodes),
            blocks_in_use=in_use,
            draft_seconds=draft,
            encode_seconds=encode,
            forward_seconds=forward,
            sample_seconds=sample,
        )

    def read(self) -> EngineStatistics:
        """Counters, and what is in use now, in a record of its own."""
        scheduler = self._scheduler
        pool, prefixes, encoder = scheduler.store.pool, scheduler.prefixes, scheduler.encoder
        return replace(
            self.counters,
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            blocks=pool.size,
            blocks_in_use=pool.in_use,
            blocks_idle=pool.idle,
            prefix_asked_tokens=prefixes.asked_tokens,
            prefix_hit_tokens=prefixes.hit_tokens,
            prefix_evictions=prefixes.evictions,
            encoder_hits=encoder.hits,
            encoder_misses=encoder.misses,
            encoder_evictions=encoder.evictions,
            encoder_bytes=encoder.bytes,
        )
