"""Heads in the engine, on tiny checkpoints of every family: the answers stay what they were, and a head that knows an
answer guesses it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from foveate.decode.drafts.base import DraftRequest
from foveate.decode.drafts.opening import open_draft
from foveate.decode.heads.config import CompressorConfig, HeadConfig
from foveate.decode.heads.draft import HeadDraft
from foveate.decode.heads.file import save_head
from foveate.decode.heads.layout import HeadLayout, layout_of
from foveate.decode.heads.model import DraftHead
from foveate.decode.settings import SpeculationSettings
from foveate.decode.tree import DraftTree
from foveate.engine.config import EngineConfig
from foveate.engine.engine import Engine
from foveate.engine.request import Completion, SamplingParameters
from foveate.engine.taps import HiddenStateTaps
from foveate.models import load
from foveate.models.records import Prompt

COUNT = 14
QUESTIONS = ("what colour is it", "is there a triangle behind the hexagon", "describe the image")
ASKED = {
    "greedy": SamplingParameters(max_tokens=COUNT, ignore_end=True),
    "sampled": SamplingParameters(max_tokens=COUNT, ignore_end=True, temperature=0.9, seed=4, n=2),
}
WHATEVER: dict[str, Any] = {
    "least_node": 0.0,
    "least_layer": 0.0,
    "remembered": 0,
}  # random heads think nothing likely
HEADS: tuple[tuple[str, str | None], ...] = (
    ("eagle2", None),
    ("eagle3", "pool:4"),
    ("eagle2", "select"),
    ("eagle3", "vispec:3"),
    ("eagle2", "weighted:3"),
    ("eagle2", "concat"),
)


class Family:
    """One tiny checkpoint, what it is asked, and what the engine answers without a draft."""

    def __init__(self, name: str, folder: Any) -> None:
        self.model = load(tiny.build_tiny(name, folder), device="cpu", dtype="float32")
        pictures = name in tiny.FAMILIES
        self.prompts = []
        for index, count in enumerate((0, 1, 2)):
            sizes = tiny.FAMILIES[name].sizes if pictures else ()
            images = [
                tiny.picture(*sizes[(index + i) % len(sizes)], i) for i in range(count if pictures else 0)
            ]
            parts = [*({"type": "image"} for _ in images), {"type": "text", "text": QUESTIONS[index]}]
            content: Any = parts if pictures else QUESTIONS[index]
            self.prompts.append(self.model.prepare([{"role": "user", "content": content}], images=images))
        self.plain = {how: answers(self.engine(None), self.prompts, how) for how in ASKED}

    def engine(self, draft: HeadDraft | None, *, nodes: int = 4, **fields: Any) -> Engine:
        speculation = SpeculationSettings(adaptive=False, depth=3, nodes=nodes) if draft else None
        settings = {"kv_blocks": 600, "block_size": 8, "encoder_cache_bytes": 2**22, "poison": True}
        return Engine(
            self.model, EngineConfig(**{**settings, "speculation": speculation, **fields}), draft=draft
        )

    def head(self, kind: str, compress: str | None, *, seed: int = 0) -> DraftHead:
        torch.manual_seed(seed)
        compressor = None if compress is None else CompressorConfig.parse(compress)
        return DraftHead(HeadConfig.for_target(self.model, kind=kind, compressor=compressor)).eval()

    @torch.no_grad()
    def states(
        self, prompt: Prompt, answer: Sequence[int], head: DraftHead
    ) -> tuple[torch.Tensor, torch.Tensor, HeadLayout]:
        """(what entered, features, layout) of prompt and answer in one plain forward."""
        model = self.model
        features = model.encode(prompt.media)
        written = model.hf_model.get_input_embeddings()(torch.tensor(answer, dtype=torch.long))
        embeds = torch.cat([model.merge(prompt, features), written[None]], dim=1)
        taps = HiddenStateTaps(model, head.config.taps)
        text = [*prompt.token_ids, *([0] * len(answer))]  # an answer may spell the image token
        whole = Prompt(token_ids=text, media=prompt.media, spans=prompt.spans, text=prompt.text)
        positions = model.positions(whole)
        keywords = model.language_keywords(whole, features)
        with taps:
            # The question of PaliGemma sees itself both ways, its answer does not: groups are the prompt's.
            state = model.attention_state(prompt)
            if state.groups is not None:
                state.groups = torch.cat([state.groups, state.groups.new_full((len(answer),), -1)])
            hidden = model.run_language_model(embeds, positions, state, **keywords)
        read = [taps.states[layer] for layer in head.config.taps] or [hidden]
        layout = layout_of(prompt, model.visual_token_ids, length=len(whole.token_ids))
        return embeds[0], torch.cat(read, dim=-1)[0], layout


def answers(
    engine: Engine, prompts: Sequence[Prompt], how: str, *, interrupt: bool = False
) -> list[list[Completion]]:
    names = [engine.add_request(prompt, ASKED[how]) for prompt in prompts]
    found: dict[str, dict[int, Completion]] = {name: {} for name in names}
    steps = 0
    while engine.has_work:
        steps += 1
        for output in engine.step():
            found[output.request_id].setdefault(output.index, Completion(index=output.index)).add(output)
        if interrupt and steps in (2, 4) and engine.scheduler.running:
            engine.scheduler.requeue(engine.scheduler.running[-1])
    engine.check_integrity()
    assert engine.store.pool.in_use == 0
    assert not engine._speculation or engine._speculation.failure is None
    return [[found[name][index] for index in sorted(found[name])] for name in names]


@pytest.fixture(scope="module")
def family_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Family]:
    made: dict[str, Family] = {}
    root = tmp_path_factory.mktemp("tiny_heads")

    def make(name: str) -> Family:
        if name not in made:
            made[name] = Family(name, root / name)
        return made[name]

    return make


class Watched(HeadDraft):
    """Remembers the state of each last decided token, by answer and place; half of its guesses are replaced by what the
    target will say."""

    def __init__(
        self, *arguments: Any, knows: dict[tuple[int, ...], list[list[int]]], **keywords: Any
    ) -> None:
        super().__init__(*arguments, **{**WHATEVER, **keywords})
        self.knows = knows
        self.found: list[tuple[Prompt, tuple[int, ...], int, torch.Tensor]] = []

    def _catch_up(self, requests: Sequence[DraftRequest]) -> torch.Tensor:
        states = super()._catch_up(requests)
        for request, state in zip(requests, states, strict=True):
            tokens = tuple(request.read(0, request.length))
            self.found.append((request.prompt, tokens, self._readings[request.key].first, state))
        return states

    def propose(self, requests: Sequence[DraftRequest]) -> list[DraftTree]:
        trees = super().propose(requests)
        for place, request in enumerate(requests):
            prompt = request.prompt.token_ids
            done = list(request.read(len(prompt), request.length))
            for answer in self.knows[tuple(prompt)]:
                if answer[: len(done)] == done and len(done) % 3:
                    trees[place] = DraftTree.chain(answer[len(done) :][: request.depth])
        return trees


@pytest.mark.parametrize("name", [*tiny.FAMILIES, *tiny.TEXT_FAMILIES])
def test_states_are_those_of_one_parallel_run_and_answers_stay(name: str, family_of: Callable) -> None:
    """Greedy and sampled, cut into chunks, preempted; in part with right guesses, so that states of accepted tokens are
    read. Each state is that of a run over the whole answer's states at once."""
    family = family_of(name)
    kind, compress = HEADS[[*tiny.FAMILIES, *tiny.TEXT_FAMILIES].index(name) % len(HEADS)]
    head = family.head(kind, compress)
    runs: list[tuple[str, bool, dict[str, Any]]] = [
        ("greedy", False, {}),
        ("sampled", False, {"max_step_tokens": 48, "max_sequences": 8}),
        ("greedy", True, {"prefix_caching": False}),
    ]
    for how, interrupt, fields in runs:
        plain = family.plain[how]
        knows = {
            tuple(prompt.token_ids): [one.token_ids for one in answer]
            for prompt, answer in zip(family.prompts, plain, strict=True)
        }
        draft = Watched(head, family.model, knows=knows)
        engine = family.engine(draft, **fields)
        assert answers(engine, family.prompts, how, interrupt=interrupt) == plain
        assert not draft._readings, "what ended was not forgotten"
        statistics = engine.statistics()
        assert 0 < statistics.accepted_tokens < statistics.draft_tokens
        check_states(family, head, draft)


def check_states(family: Family, head: DraftHead, draft: Watched) -> None:
    """Every state of a last decided token against one run over all states of its answer."""
    runs: dict[tuple[tuple[int, ...], tuple[int, ...], int], torch.Tensor] = {}
    for prompt, tokens, first, state in draft.found:
        done = len(prompt.token_ids)
        [answer, *_] = [
            one for one in draft.knows[tokens[:done]] if tuple(one[: len(tokens) - done]) == tokens[done:]
        ]
        name = (tokens[:done], tuple(answer), first)
        if name not in runs:
            embeds, features, layout = family.states(prompt, answer, head)
            with torch.no_grad():
                [whole] = head(embeds[None, first:], features[None, first:], [layout.behind(first)])
            runs[name] = whole[0]
        assert float((runs[name][len(tokens) - 1 - first] - state).abs().max()) < 1e-3
    assert len(draft.found) >= 10


@pytest.mark.parametrize("remembered", [0, 1 << 20])
@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "gemma3"])
def test_prompts_from_the_prefix_cache(name: str, remembered: int, family_of: Callable) -> None:
    """The same prompts again and again: a head sees less and less of them, or has their rows from before; the answers
    are the same."""
    family = family_of(name)
    knows: dict[tuple[int, ...], list[list[int]]] = {tuple(prompt.token_ids): [] for prompt in family.prompts}
    draft = Watched(family.head("eagle2", "pool:4"), family.model, knows=knows, remembered=remembered)
    engine = family.engine(draft, block_size=2)
    for _ in range(3):
        assert answers(engine, family.prompts, "greedy") == family.plain["greedy"]
    firsts = {first for _, _, first, _ in draft.found}
    assert (firsts != {0}) == (engine.prefixes.hit_tokens > 0)
    assert bool(draft._remembered._kept) == (remembered > 0)


@pytest.mark.parametrize("nodes", [3, 9])
def test_random_heads_change_nothing(nodes: int, family_of: Callable) -> None:
    """Chains and trees of noise, under M-RoPE and with windows; a pool that holds little more than one request."""
    for name in ("qwen2_vl", "gemma3"):
        family = family_of(name)
        head = family.head("eagle3", "select", seed=nodes)
        longest = max(len(prompt.token_ids) for prompt in family.prompts) + COUNT
        small = {"block_size": 4, "kv_blocks": -(-longest // 4) + 4, "prefix_caching": False}
        for fields in ({}, small):
            engine = family.engine(HeadDraft(head, family.model, **WHATEVER), nodes=nodes, **fields)
            assert answers(engine, family.prompts, "greedy") == family.plain["greedy"]
            assert engine.statistics().draft_tokens > 0


def fit(family: Family, head: DraftHead, prompt: Prompt, answer: Sequence[int]) -> float:
    """Fits a head to one answer, guesses on guesses too; the share of the answer's tokens it then has right."""
    embeds, features, layout = family.states(prompt, answer, head)
    wanted, first = torch.tensor(answer), len(prompt.token_ids) - 1
    optimiser = torch.optim.Adam(head.parameters(), lr=0.01)
    head.train()
    for _ in range(60):
        guessed = head(embeds[None].clone(), features[None].clone(), [layout], steps=3)
        loss = torch.stack(
            [
                torch.nn.functional.cross_entropy(
                    head.logits(one[0, first + step : -1], family.model.head), wanted[step:]
                )
                for step, one in enumerate(guessed)
            ]
        ).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    head.eval()
    with torch.no_grad():
        last = head(embeds[None], features[None], [layout], steps=3)[-1]
        return float(
            (head.logits(last[0, first + 2 : -1], family.model.head).argmax(-1) == wanted[2:]).float().mean()
        )


@pytest.mark.parametrize(
    ("name", "kind", "compress"), [("llava", "eagle2", None), ("qwen2_vl", "eagle3", "vispec:3")]
)
def test_a_head_that_was_fitted_to_an_answer_guesses_it(
    name: str, kind: str, compress: str | None, family_of: Callable
) -> None:
    """The diagnostic of wiring: a head that is shown other features, positions or embeddings than those it was fitted
    to has its guesses refused, and an answer takes as many passes as without it."""
    family = family_of(name)
    head, prompt = family.head(kind, compress), family.prompts[1]
    [[answer]] = answers(family.engine(None), [prompt], "greedy")
    assert fit(family, head, prompt, answer.token_ids) > 0.9
    for nodes in (3, 8):
        engine = family.engine(HeadDraft(head, family.model, **WHATEVER), nodes=nodes)
        [[same]] = answers(engine, [prompt], "greedy")
        assert same == answer
        statistics = engine.statistics()
        assert (
            1 + statistics.accepted_tokens / statistics.decode_passes > 3.0
        )  # of 4 at depth 3; the end is cut
    other = family.engine(HeadDraft(family.head(kind, compress, seed=9), family.model, **WHATEVER))
    answers(other, [prompt], "greedy")
    assert other.statistics().accepted_tokens < 3


def test_in_bfloat16_a_head_loses_little(family_of: Callable, tmp_path: Path) -> None:
    """Packed where that pays; a head that was fitted in float32 guesses as well. The answer may differ from the plain
    one where bfloat16 makes a tie of two tokens, so it is the guesses that are compared."""
    family = family_of("llava")
    head, prompt = family.head("eagle2", None), family.prompts[1]
    [[answer]] = answers(family.engine(None), [prompt], "greedy")
    fit(family, head, prompt, answer.token_ids)
    save_head(tmp_path, head, family.model, dtype=torch.float32)
    model = load(family.model.folder, device="cpu", dtype="bfloat16")
    draft = open_draft(str(tmp_path), model)
    assert "head of 0.0 M" in draft.describe() and head.parameter_count > 20_000
    settings = SpeculationSettings(adaptive=False, depth=3, nodes=3)
    engine = Engine(model, EngineConfig(kv_blocks=600, block_size=8, speculation=settings), draft=draft)
    answers(engine, [prompt], "greedy")
    statistics = engine.statistics()
    assert 1 + statistics.accepted_tokens / statistics.decode_passes > 2.5
