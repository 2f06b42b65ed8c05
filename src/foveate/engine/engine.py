"""The engine: requests in, tokens out, one step at a time; synchronous and deterministic.

Owns the life of requests: admission, steps, sampling, ends, statistics. Knows no HTTP and no families. Not for
several threads at once: `async_engine.py` gives it one of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from foveate.decode.drafts.base import Draft
from foveate.decode.drafts.opening import open_draft
from foveate.decode.settings import SpeculationSettings
from foveate.decode.tree import ROOT
from foveate.engine.admission import admit
from foveate.engine.answers import Answers
from foveate.engine.attention import choose_backend
from foveate.engine.cache import BlockPool, KeyValueBlocks
from foveate.engine.config import EngineConfig
from foveate.engine.constraints import ConstraintCompiler
from foveate.engine.encoder_cache import EncoderCache
from foveate.engine.head import OutputHead
from foveate.engine.layout import lay_out, processing_settings
from foveate.engine.memory import plan_memory
from foveate.engine.plan import Phase, StepPlan, Work
from foveate.engine.positions import ModelPositions
from foveate.engine.prefix_cache import PrefixCache
from foveate.engine.reduction import VisualBudget, plan_reduction
from foveate.engine.request import Completion, Request, RequestError, SamplingParameters, StepOutput
from foveate.engine.runner import Runner
from foveate.engine.sampling import likeliest_tokens
from foveate.engine.scheduler import Scheduler
from foveate.engine.sequence import Sequence as Answer
from foveate.engine.sequence import Status
from foveate.engine.speculation import Speculation, StepResult
from foveate.engine.state import PagedKeyValueStore, StateOperation
from foveate.engine.statistics import EngineStatistics, Event, Listener, Meter, RequestStatistics
from foveate.engine.suspects import Suspects
from foveate.engine.taps import HiddenStateTaps
from foveate.models.parts.packing import pack_linears, packing_pays
from foveate.models.records import Prompt

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel
    from foveate.reduce.keep_map import KeepMap

_log = logging.getLogger(__name__)
Messages = Sequence[Mapping[str, Any]]


class Engine:
    """Serves many requests on one model.

    Args:
        on_event: told what happens as it happens (see `statistics.Event`); must not block.
        on_hidden: given (plan, {layer: [1, T, D]}) after every forward where `config.tap_layers` names layers; drafts
            stand behind the tokens of their work.
        draft: guesses tokens; None opens what `config.speculation` names, if anything.
        clock: seconds; for tests.

    Raises:
        EngineConfigError: settings that cannot work on this machine.
        DraftError: a draft that does not fit the model.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        config: EngineConfig | None = None,
        *,
        on_event: Listener | None = None,
        on_hidden: Callable[[StepPlan, Mapping[int, torch.Tensor]], None] | None = None,
        draft: Draft | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.model, self.config = model, config or EngineConfig()
        self._on_event, self._on_hidden, self._clock = on_event, on_hidden, clock
        self.weights_reason = self._prepare_weights()
        self.memory = plan_memory(model, self.config)
        memory = KeyValueBlocks(
            self.memory.layers,
            self.memory.kv_blocks,
            self.config.block_size,
            dtype=model.dtype,
            device=model.device,
            poison=self.config.poison,
        )
        backend, self.attention_reason = choose_backend(memory, self.config.attention)
        self.store = PagedKeyValueStore(BlockPool(memory.blocks), memory)
        needed = (StateOperation.APPEND, StateOperation.COMMIT, StateOperation.ROLLBACK, StateOperation.CLONE)
        self.store.require(*needed, purpose="Autoregressive decoding")
        self._positions = ModelPositions(model)
        self._settings = processing_settings(model)
        self.prefixes = PrefixCache(
            self.store.pool,
            self.config.block_size,
            settings=f"{self._settings}\0{self._positions.kind}",
            enabled=self.config.prefix_caching,
        )
        self.encoder = EncoderCache(self.memory.encoder_bytes)
        self.scheduler = Scheduler(
            self.store,
            self.prefixes,
            self.encoder,
            max_sequences=self.config.max_sequences,
            max_step_tokens=self.config.max_step_tokens,
        )
        if draft is None and self.config.speculation is not None:
            draft = open_draft(self.config.speculation.draft, model)
        wanted = () if draft is None else draft.tap_layers
        self._taps = HiddenStateTaps(model, tuple(dict.fromkeys((*self.config.tap_layers, *wanted))))
        self._runner = Runner(model, self.store, self.encoder, backend, self._taps)
        self._head = OutputHead(model, self.config.head_rows)
        self._meter = Meter(self.scheduler, self._tell)
        self._answers = Answers(
            model, self.scheduler, self._meter.counters, self._tell, seed=self.config.seed
        )
        self._speculation = None if draft is None else self._speculate(draft)
        self.constraints = ConstraintCompiler(model.tokenizer, int(model.text_config.vocab_size))
        self._undelivered: list[StepOutput] = []
        self._stepping = False
        self._late_aborts: list[str] = []
        self._choosing: Answer | None = None
        self._count = 0
        self._suspects = Suspects()
        self.failed: tuple[str, ...] = ()  # requests that ended because the step before raised
        _log.info("%s", self.describe())

    def describe(self) -> str:
        """Memory plan, weights and backend with their reasons, for the start of a program."""
        text = f"{self.memory.text()}\nweights: {self.weights_reason}\nattention: {self.attention_reason}"
        return text if self._speculation is None else f"{text}\nspeculation: {self._speculation.describe()}"

    def _speculate(self, draft: Draft) -> Speculation:
        self.store.require(StateOperation.ROLLBACK, StateOperation.SELECT, purpose="Speculation")
        return Speculation(
            draft,
            self.config.speculation or SpeculationSettings(),
            self.scheduler,
            room=self.config.max_step_tokens,
            rows=self.config.head_rows,
            left=self._answers.tokens_left,
            statistics=self._answers.statistics,
            counters=self._meter.counters,
            clock=self._clock,
        )

    def _prepare_weights(self) -> str:
        model = self.model
        kind = str(model.dtype).removeprefix("torch.")
        if model.quantisation is not None:
            kind += f", {model.quantisation.text()}"
        if not self.config.pack_weights:
            return f"{kind}, as loaded: asked for"
        if not packing_pays(model.dtype, model.device):
            return f"{kind}, as loaded: packing does not pay for it here"
        packed = pack_linears(model.hf_model)
        return f"{kind}, {packed} linear layers packed for this processor"

    # -- requests ----------------------------------------------------------------------------------------

    def add_request(
        self,
        prompt: Prompt | Messages,
        parameters: SamplingParameters | None = None,
        *,
        images: Sequence[Any] = (),
        request_id: str | None = None,
        priority: int = 0,
        tenant: str = "",
        preprocess_seconds: float = 0.0,
        preprocess_wait_seconds: float = 0.0,
        arrival: float | None = None,
        visual: VisualBudget | None = None,
    ) -> str:
        """Takes a request and returns its id.

        Args:
            prompt: prepared by `model.prepare`, or messages to be prepared here (`images` fill their parts).
            visual: how many visual tokens to keep and by which method; None keeps all.
            preprocess_seconds: what making the prompt took, after `preprocess_wait_seconds` for a worker.
            arrival: when it came, on the engine's clock; None is now.

        Raises:
            RequestError: it can never be served, or the id is taken; other requests are not touched.
            PromptError, MediaError: from preparing messages.
            ReductionError: a visual budget or method that does not fit the model or an image.
        """
        if not isinstance(prompt, Prompt):
            began = self._clock()
            prompt = self.model.prepare(prompt, images=images, to_be_reduced=visual is not None)
            preprocess_seconds += self._clock() - began
        if not prompt.token_ids:
            raise RequestError("The prompt has 0 tokens", why="there is nothing to go on from")
        parameters = parameters or SamplingParameters()
        reduction = None
        if visual is not None and prompt.media:
            prompt, reduction = plan_reduction(self.model, prompt, visual)
        layout = lay_out(self.model, prompt, self._positions, self._settings, reduction)
        admit(
            parameters,
            layout,
            self.config,
            context_length=self.model.context_length,
            vocabulary=int(self.model.text_config.vocab_size),
            kv_blocks=self.store.pool.size,
            encoder_bytes=self.encoder.capacity,
            accepts_images=self.model.accepts_images,
        )
        constraint = None
        if parameters.constraint is not None:
            constraint = self.constraints.prepare(parameters.constraint, self._answers.stops(parameters))
        request_id = request_id or self._answers.unused_id(self._count)
        if request_id in self._answers:
            raise RequestError(f"The request id {request_id!r} is in use", fix="Choose another id.")
        request = Request(
            id=request_id,
            prompt=prompt,
            parameters=parameters,
            priority=priority,
            tenant=tenant,
            arrival=self._clock() if arrival is None else arrival,
            order=self._count,
        )
        self._count += 1
        self._answers.begin(request, layout, (preprocess_wait_seconds, preprocess_seconds), constraint)
        for key, keep_map in zip(layout.media_keys, reduction.known_maps if reduction else (), strict=False):
            if keep_map is not None:
                self._runner.remember(key, keep_map)
        self._tell("added", request_id)
        return request_id

    def keep_maps(self, request_id: str) -> tuple[KeepMap | None, ...]:
        """What was kept of each image of a request that is here or ended not long ago, in order; None for an image
        that kept everything, was not encoded yet, or whose map is no longer remembered."""
        return tuple(self._runner.keep_maps.get(key) for key in self._answers.media_keys(request_id))

    def abort(self, request_id: str) -> bool:
        """Ends a request at once and returns all it held; False if it is not (any more) here.

        Called by a listener in the middle of a step, it takes effect at the end of that step.
        """
        if request_id not in self._answers:
            return False
        if self._stepping:
            self._late_aborts.append(request_id)
            return True
        self._undelivered += self._answers.abort(request_id, self._clock())
        return True

    @property
    def has_work(self) -> bool:
        """Whether `step` has anything to do or to deliver."""
        return self.scheduler.has_work or bool(self._undelivered)

    def request_statistics(self, request_id: str) -> RequestStatistics | None:
        """Of a request that is here or ended not long ago."""
        return self._answers.statistics(request_id)

    # -- steps -------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def step(self) -> list[StepOutput]:
        """One step of all requests; what it added to their answers.

        Should the model raise, so does this; the step's tokens are as if never run. The next steps try its
        requests in halves, apart from all others, until the one that fails is found (`is_searching` until
        then). That one ends with "error" and is named in `failed`; the others lose nothing but time.
        """
        assert not self._stepping, "a listener must not step the engine it listens to"
        outputs, self._undelivered, self.failed = self._undelivered, [], ()
        if not self.scheduler.has_work:
            return outputs
        only = self._suspects.draw(self._answers.__contains__)
        plan = self.scheduler.schedule(only)
        self._stepping = True
        try:
            drafting = 0.0
            if self._speculation is not None and only is None:
                began = self._clock()
                plan = self._speculation.extend(plan)
                drafting = self._clock() - began
            self._execute(plan, outputs, drafting)
        except BaseException as error:
            self._stepping = False
            self._undelivered = outputs + self._undelivered + self._give_up(plan, error)
            raise
        self._stepping = False
        late, self._late_aborts = self._late_aborts, []
        for request_id in late:
            self.abort(request_id)
        return outputs

    def _give_up(self, plan: StepPlan, error: BaseException) -> list[StepOutput]:
        """Takes a step back; the last outputs of the request it failed for, where that is known."""
        choosing, self._choosing = self._choosing, None
        guilty = None
        if isinstance(error, Exception):  # Ctrl-C is nobody's fault
            self._meter.counters.failed_steps += 1
            names = tuple(dict.fromkeys(work.sequence.request.id for work in plan.works))
            guilty = self._suspects.split(names) if choosing is None else choosing.request.id
            self.failed = () if guilty is None else (guilty,)
            _log.warning("a step of %d requests raised %r; to blame: %s", len(names), error, guilty or "open")
        return self._answers.give_up(plan, guilty, self._clock())

    @property
    def is_searching(self) -> bool:
        """Whether a step raised and it is not yet known for which request."""
        return bool(self._suspects)

    def _execute(self, plan: StepPlan, outputs: list[StepOutput], drafting: float) -> None:
        """Encoder stage, forward, sampling; appends to `outputs` as answers get their tokens."""
        began = self._clock()
        self._meter.counters.preemptions += len(plan.preempted)
        self._answers.note_plan(plan, began)
        self._runner.encode(plan.encodes)
        encoded = self._clock()
        if not plan.works:
            return
        hidden = self._runner.forward(plan)
        forwarded = self._clock()
        for work in plan.works:
            self.scheduler.advance(work)
        if self._taps.states and self._on_hidden is not None:
            self._on_hidden(plan, self._taps.states)
        self._answers.note_encoding(plan.encodes, encoded - began)
        for output in self._sample(plan, hidden):
            outputs.append(output)  # one by one: should a later answer raise, this one was given
        sampled = self._clock()
        if self._speculation is not None:
            assert self._runner.inputs is not None
            embeds, positions = self._runner.inputs
            result = StepResult(hidden=hidden, embeds=embeds, positions=positions, taps=self._taps.states)
            self._speculation.finish_step(plan, drafting, sampled - encoded, result)
        self._meter.step(plan, encoded - began, forwarded - encoded, sampled - forwarded, drafting)

    def _sample(self, plan: StepPlan, hidden: torch.Tensor) -> Iterator[StepOutput]:
        """Chooses a token for every row of logits the plan asks for; of a draft's rows, for those it reaches."""
        for works, rows in _by_rows(plan, self._head.row_budget):
            for _, logits in self._head.project(hidden, rows):
                likeliest = likeliest_tokens(logits)  # of all rows at once: most requests are greedy
                first = 0
                for work in works:
                    self._choosing = work.sequence
                    last = first + len(work.logit_rows)
                    yield from self._follow(work, logits[first:last], likeliest[first:last])
                    first = last
        self._choosing = None

    def _follow(self, work: Work, logits: torch.Tensor, likeliest: Sequence[int]) -> Iterator[StepOutput]:
        """The answer's next token, and, as long as it is one that the draft has there, the one after
        (`decode.verify.match_sampled`)."""
        answer, draft = work.sequence, work.draft
        yield from self._answers.accept(answer, logits[0], likeliest[0], self._clock)
        path: list[int] = []
        while draft is not None and answer.status is Status.RUNNING:
            node = draft.child(path[-1] if path else ROOT, answer.output[-1])
            if node is None:
                break
            assert answer.accepted is not None
            answer.accepted.append(work.stop + node)
            path.append(node)
            yield from self._answers.accept(answer, logits[node + 1], likeliest[node + 1], self._clock)
        self.scheduler.settle(answer)
        if self._speculation is not None and work.phase is Phase.DECODE:
            self._speculation.note(work, path)

    # -- conveniences ------------------------------------------------------------------------------------

    def run_to_completion(self) -> dict[str, list[Completion]]:
        """Steps until nothing is left; the answers of every request that ended, by id."""
        collected: dict[str, dict[int, Completion]] = {}
        while self.has_work:
            for output in self.step():
                answers = collected.setdefault(output.request_id, {})
                answers.setdefault(output.index, Completion(index=output.index)).add(output)
        return {name: [answers[index] for index in sorted(answers)] for name, answers in collected.items()}

    def stream(
        self,
        prompt: Prompt | Messages,
        parameters: SamplingParameters | None = None,
        *,
        images: Sequence[Any] = (),
        **keywords: Any,
    ) -> Generator[StepOutput]:
        """The outputs of one request as they come; it arrives at the first `next`, and closing the iterator
        aborts it. `keywords` go to `add_request`.

        Other requests go on meanwhile; their outputs come with the next step, and their failures stay theirs.

        Raises:
            As `add_request`; what the model raised for this request.
        """
        own, finished = self.add_request(prompt, parameters, images=images, **keywords), False
        try:
            while not finished:
                try:
                    outputs = self.step()
                except Exception:
                    if own in self.failed or not (self.failed or self.is_searching):
                        raise
                    continue  # another request failed, or it is not yet known which
                self._undelivered = [output for output in outputs if output.request_id != own]
                for output in outputs:
                    if output.request_id == own:
                        finished |= output.finished
                        yield output
        finally:
            if not finished:
                self.abort(own)  # the caller left or a step raised: nobody is there to read the rest
                self._undelivered = [output for output in self._undelivered if output.request_id != own]

    def generate(
        self,
        prompt: Prompt | Messages,
        parameters: SamplingParameters | None = None,
        *,
        images: Sequence[Any] = (),
        visual: VisualBudget | None = None,
    ) -> list[Completion]:
        """The n answers to one prompt, whole; see `stream`."""
        answers: dict[int, Completion] = {}
        for output in self.stream(prompt, parameters, images=images, visual=visual):
            answers.setdefault(output.index, Completion(index=output.index)).add(output)
        return [answers[index] for index in sorted(answers)]

    # -- accounts ----------------------------------------------------------------------------------------

    def check_integrity(self) -> None:
        """Proves that no block and no reference leaked."""
        self.scheduler.check_integrity()

    def statistics(self) -> EngineStatistics:
        """Counters and what is in use now."""
        return self._meter.read()

    def _tell(self, kind: str, request_id: str | None = None, **data: Any) -> None:
        if self._on_event is not None:
            self._on_event(Event(kind=kind, time=self._clock(), request_id=request_id, data=data))


def _by_rows(plan: StepPlan, budget: int) -> Iterator[tuple[list[Work], list[int]]]:
    """The works that want logits, at most `budget` rows at a time and each whole, with their rows in the batch."""
    works: list[Work] = []
    rows: list[int] = []
    offset = 0
    for work in plan.works:
        wanted = len(work.logit_rows)
        if rows and len(rows) + wanted > budget:
            yield works, rows
            works, rows = [], []
        if wanted:
            works.append(work)
            rows += [offset + row - work.start for row in work.logit_rows]
        offset += work.tokens
    if rows:
        yield works, rows
