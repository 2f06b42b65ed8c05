"""Who runs in the next step, and with how many tokens.

Owns the waiting and the running, and every decision about room: blocks, encoder cache, tokens of a step. Knows
no model: it hands out a `StepPlan` and is told what became of it.

Fairness: every running answer gets its next token in every step, and because fewer answers may run than a step
has tokens, prompts always get the rest, the most urgent first. Progress: only the least urgent is ever
preempted, and a request that could not run alone is refused before it comes here, so the most urgent always
finishes.
"""

from __future__ import annotations

import bisect
from dataclasses import replace
from typing import TYPE_CHECKING

from foveate.engine.plan import Encode, Phase, StepPlan, Work
from foveate.engine.sequence import Sequence, Status

if TYPE_CHECKING:
    from foveate.decode.tree import DraftTree
    from foveate.engine.encoder_cache import EncoderCache
    from foveate.engine.prefix_cache import PrefixCache
    from foveate.engine.state import PagedKeyValueStore


def _urgency(sequence: Sequence) -> tuple[int, int, int]:
    return sequence.urgency


class Scheduler:
    """First come, first served within a priority; the higher priority first."""

    def __init__(
        self,
        store: PagedKeyValueStore,
        prefixes: PrefixCache,
        encoder: EncoderCache,
        *,
        max_sequences: int,
        max_step_tokens: int,
    ) -> None:
        assert max_step_tokens > max_sequences
        self.store, self.prefixes, self.encoder = store, prefixes, encoder
        self._max_sequences, self._max_step_tokens = max_sequences, max_step_tokens
        self.waiting: list[Sequence] = []  # both lists: the most urgent first
        self.running: list[Sequence] = []

    @property
    def has_work(self) -> bool:
        """Whether anybody waits or runs."""
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        """A new sequence waits."""
        bisect.insort(self.waiting, sequence, key=_urgency)

    # -- one step ----------------------------------------------------------------------------------------

    def schedule(self, only: frozenset[str] | None = None) -> StepPlan:
        """Decides the next step and takes the room for it.

        Args:
            only: ids of the requests that may run in it; None for all. The others keep what they have.
        """
        preempted: list[Sequence] = []
        if only is None:
            self._yield_to_urgent(preempted)
        yielded = len(preempted)
        works: list[Work] = []
        running = [one for one in self.running if only is None or one.request.id in only]
        for sequence in running:
            if (
                sequence.status is Status.RUNNING
                and sequence.is_decoding
                and self._room_for_token(sequence, preempted)
            ):
                works.append(self._work(sequence, sequence.length, Phase.DECODE))
        encodes: list[Encode] = []
        budget = self._max_step_tokens - len(works)
        for sequence in running:
            if sequence.status is Status.RUNNING and not sequence.is_decoding:
                budget -= self._prefill(sequence, budget, works, encodes)
        admitted: list[Sequence] = []
        # Where running answers lack room, nobody is let in: it would have to leave at once.
        while budget > 0 and len(preempted) == yielded:
            head = self._next_waiting(only)
            if head is None or not self._fits(head):
                break
            self._admit(head)
            admitted.append(head)
            budget -= self._prefill(head, budget, works, encodes)
        return StepPlan(
            works=tuple(works), encodes=tuple(encodes), preempted=tuple(preempted), admitted=tuple(admitted)
        )

    def _work(self, sequence: Sequence, stop: int, phase: Phase) -> Work:
        start = sequence.computed
        self.store.append(sequence.key, stop - start)
        return Work(
            sequence=sequence,
            start=start,
            stop=stop,
            phase=phase,
            logit_rows=(stop - 1,) if stop == sequence.length else (),
            state_bytes=(stop - start) * self.store.token_bytes,
        )

    def _prefill(self, sequence: Sequence, budget: int, works: list[Work], encodes: list[Encode]) -> int:
        """Plans the next chunk of a prompt where there is room; returns its tokens."""
        if budget <= 0:
            return 0
        layout, start = sequence.layout, sequence.computed
        stop = layout.cut(start, min(sequence.length, start + budget))
        if stop <= start:  # the chunk begins a span that is larger than what is left
            if any(work.phase is Phase.PREFILL for work in works):
                return 0
            stop = layout.shortest_chunk(start)
        stop = self._with_images(sequence, start, stop, encodes)
        if stop <= start:
            return 0
        works.append(self._work(sequence, stop, Phase.PREFILL))
        return stop - start

    def _with_images(self, sequence: Sequence, start: int, stop: int, encodes: list[Encode]) -> int:
        """Refers to the features the chunk needs; where they do not all fit, ends it before the first that
        does not."""
        layout = sequence.layout
        while True:
            wanted = [index for index in layout.media_in(start, stop) if index not in sequence.pinned]
            needs: dict[str, int] = {}
            too_much = None
            for index in wanted:
                needs[layout.media_keys[index]] = layout.media_bytes[index]
                if not self.encoder.can_hold(needs):
                    too_much = index
                    break
            if too_much is None:
                break
            stop = layout.cut(start, layout.first_token_of(too_much))
            if stop <= start:
                return start
        for index in wanted:
            key = layout.media_keys[index]
            ready = self.encoder.acquire(key, layout.media_bytes[index])
            sequence.pinned.add(index)
            if not ready and all(encode.key != key for encode in encodes):
                encodes.append(Encode(sequence=sequence, media_index=index, key=key))
        return stop

    # -- coming and going --------------------------------------------------------------------------------

    def _fits(self, sequence: Sequence) -> bool:
        """Whether all tokens decided so far fit, with a block to spare for every running answer."""
        if sum(one.slots for one in self.running) + sequence.slots > self._max_sequences:
            return False
        pool, found = self.store.pool, self.prefixes.match(sequence)
        idle = sum(pool.references(block) == 0 for block in found)
        new = self.store.blocks_for(sequence.length) - len(found)
        return new + idle + len(self.running) <= pool.available

    def _next_waiting(self, only: frozenset[str] | None) -> Sequence | None:
        return next((one for one in self.waiting if only is None or one.request.id in only), None)

    def _admit(self, sequence: Sequence) -> None:
        self.waiting.remove(sequence)
        found = self.prefixes.match(sequence)
        self.store.open(sequence.key, found)
        self.store.reserve(sequence.key, sequence.length)
        sequence.computed = self.store.length(sequence.key)
        if sequence.cached_tokens is None:
            sequence.cached_tokens = sequence.computed
            self.prefixes.count(sequence.length, sequence.computed)
        sequence.status = Status.RUNNING
        bisect.insort(self.running, sequence, key=_urgency)

    def _yield_to_urgent(self, preempted: list[Sequence]) -> None:
        """A request of higher priority takes the room of running ones of lower priority, if that suffices."""
        while self.waiting and self.running:
            head, last = self.waiting[0], self.running[-1]
            if (
                head.request.priority <= last.request.priority
                or self._fits(head)
                or not self._would_fit(head)
            ):
                return
            self.requeue(last)
            preempted.append(last)

    def _would_fit(self, head: Sequence) -> bool:
        """Whether `head` would fit with all running ones of lower priority gone."""
        staying = [one for one in self.running if one.request.priority >= head.request.priority]
        if sum(one.slots for one in staying) + head.slots > self._max_sequences:
            return False
        kept = {block for one in staying for block in self.store.blocks(one.key)}
        free = self.store.pool.size - len(kept)
        shared = sum(block in kept for block in self.prefixes.match(head))
        return self.store.blocks_for(head.length) - shared + len(staying) <= free

    def _room_for_token(self, sequence: Sequence, preempted: list[Sequence]) -> bool:
        """Room for one more token, if need be by preempting the least urgent, which may be itself."""
        while not self.store.can_hold(sequence.key, sequence.length):
            victim = self.running[-1]
            self.requeue(victim)
            preempted.append(victim)
            if victim is sequence:
                return False
        return True

    def requeue(self, sequence: Sequence) -> None:
        """Preemption: takes all blocks; tokens, text and generator stay, so that nothing is lost but time."""
        self._leave(sequence)
        sequence.status = Status.WAITING
        sequence.computed = 0
        sequence.preemptions += 1
        bisect.insort(self.waiting, sequence, key=_urgency)

    def _leave(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.store.close(sequence.key)
        for index in sequence.pinned:
            self.encoder.release(sequence.layout.media_keys[index])
        sequence.pinned.clear()

    # -- what became of a plan ---------------------------------------------------------------------------

    def advance(self, work: Work) -> None:
        """The work was done: its tokens are final."""
        sequence = work.sequence
        self.store.commit(sequence.key, work.stop)
        self.prefixes.keep(sequence, self.store.blocks(sequence.key), work.start, work.stop)
        sequence.computed = work.stop
        for index in [one for one in sequence.pinned if sequence.layout.media_done(one, work.stop)]:
            self.encoder.release(sequence.layout.media_keys[index])
            sequence.pinned.remove(index)

    def try_draft(self, work: Work, draft: DraftTree) -> Work | None:
        """The work with a draft after its last token; None where there is no room for it. Nobody is preempted for
        what may be dropped at the end of the step."""
        sequence, count = work.sequence, len(draft)
        if not self.store.can_hold(sequence.key, work.stop + count):
            return None
        self.store.append(sequence.key, count)
        sequence.accepted = []
        return replace(
            work,
            draft=draft,
            logit_rows=tuple(range(work.stop - 1, work.stop + count)),
            state_bytes=work.state_bytes + count * self.store.token_bytes,
        )

    def settle(self, sequence: Sequence) -> None:
        """Accepted drafts become final, the others and their blocks go; without a draft, nothing happens."""
        accepted, sequence.accepted = sequence.accepted, None
        if accepted is None:
            return
        self.store.select(sequence.key, accepted)
        start, sequence.computed = sequence.computed, self.store.length(sequence.key)
        self.prefixes.keep(sequence, self.store.blocks(sequence.key), start, sequence.computed)

    def revoke(self, work: Work) -> None:
        """The work was not done: its tokens never were, and images that were not encoded are asked for anew."""
        sequence = work.sequence
        sequence.accepted = None
        self.store.rollback(sequence.key, work.start)
        if not sequence.is_decoding:  # a prompt keeps the room it was let in with
            self.store.reserve(sequence.key, sequence.length)
        keys = sequence.layout.media_keys
        for index in [one for one in sequence.pinned if not self.encoder.is_filled(keys[one])]:
            self.encoder.release(keys[index])
            sequence.pinned.remove(index)

    def fork(self, leader: Sequence, other: Sequence) -> None:
        """`other` runs from here on with the past of `leader`, whose prompt is complete."""
        self.store.clone(leader.key, other.key)
        other.computed, other.cached_tokens = leader.computed, leader.cached_tokens
        other.block_names = list(leader.block_names)
        other.status = Status.RUNNING
        leader.forks -= 1
        bisect.insort(self.running, other, key=_urgency)

    def finish(self, sequence: Sequence) -> None:
        """Ends a sequence wherever it is and returns its blocks."""
        if sequence.status is Status.RUNNING:
            self.settle(sequence)
            self._leave(sequence)
        elif sequence.status is Status.WAITING:
            self.waiting.remove(sequence)
        sequence.status = Status.FINISHED

    def check_integrity(self) -> None:
        """Proves that no block and no reference leaked; at idle nothing is in use."""
        self.store.check_integrity()
        self.prefixes.check_integrity()
        self.encoder.check_integrity(idle=not self.running)
        if not self.running:
            assert self.store.pool.in_use == 0, f"{self.store.pool.in_use} blocks in use at idle"
