"""What the claim about SpecVLM measures: the rule by enumeration, the shipped head in the engine, heads trained here.

Owns the measurements; each returns plain numbers by prompt. Knows no margins. Counts are of passes of the target, never
of seconds: a machine that is busy changes none of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import torch

from foveate.claims.base import ClaimError
from foveate.claims.enumeration import Language, distance, joint, outcomes, plain
from foveate.decode.drafts.base import Draft
from foveate.decode.heads.config import CompressorConfig, HeadConfig
from foveate.decode.settings import SpeculationSettings
from foveate.decode.tree import ROOT, DraftTree
from foveate.decode.verify import match_sampled, verify_drawn_tree
from foveate.engine import Engine, EngineConfig, SamplingParameters
from foveate.train.draft.accepted import Accepted
from foveate.train.draft.lessons import Lessons
from foveate.train.draft.prompts import DraftPrompt, WorldPrompts
from foveate.train.draft.student import Student, output_head
from foveate.train.draft.teaching import Lesson, Teacher

if TYPE_CHECKING:
    from foveate.claims.specvlm import Plan
    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import Prompt

Shape = tuple[int, int]  # of a draft: its depth, and its guesses

# A branch below the first child, one below the second, a grandchild.
_PARENTS = (ROOT, ROOT, ROOT, 0, 0, 1, 3)
_AT_ONCE = 32
_LONGEST = 96  # tokens of a reply
_LEAST_EXPECTED = 5.0  # of a cell of the chi-square test; rarer pairs share one


# -- the rule --------------------------------------------------------------------------------------------


def enumerate_rule(languages: int, seed: int) -> dict[str, Any]:
    """Total variation between what the engine's rule emits with a tree of the draft's likeliest tokens and the target's
    distribution over four tokens, the largest of some random pairs; and that of likeliest children under p/q."""
    worst, mixed, emitted = 0.0, 0.0, 0.0
    for number in range(languages):
        target = Language(1000 * seed + number)
        draft = target.near(Language(1000 * seed + 500 + number), 0.5)
        tree = _likeliest_tree(draft)
        p, q = _rows(target, tree), _rows(draft, tree)

        def matched(chance: Any, tree: DraftTree = tree, p: torch.Tensor = p) -> list[int]:
            return match_sampled(tree, lambda node: chance.draw(p[node + 1]))

        def wrong(chance: Any, tree: DraftTree = tree, p: torch.Tensor = p, q: torch.Tensor = q) -> list[int]:
            return verify_drawn_tree(tree, p, q, chance)

        worst = max(worst, distance(joint(matched, target), plain(target)))
        mixed = max(mixed, distance(joint(wrong, target), plain(target)))
        emitted += sum(weight * len(tokens) for tokens, weight in outcomes(matched)) / languages
    return {"total_variation": worst, "total_variation_of_the_mix": mixed, "accepted_length": emitted}


def _rows(language: Language, tree: DraftTree) -> torch.Tensor:
    """[1 + nodes, V]: after the root, then after every node."""
    pasts = [[], *([tree.tokens[one] for one in tree.path(node)] for node in range(len(tree)))]
    return torch.stack([language(past) for past in pasts])


def _likeliest_tree(draft: Language) -> DraftTree:
    """The n-th child of a node is its n-th likeliest token."""
    tokens: list[int] = []
    for node, parent in enumerate(_PARENTS):
        shape = DraftTree(tuple(tokens), _PARENTS[:node])
        past = [] if parent == ROOT else [tokens[one] for one in shape.path(parent)]
        ranked = draft(past).argsort(descending=True, stable=True)
        tokens.append(int(ranked[_PARENTS[:node].count(parent)]))
    return DraftTree(tuple(tokens), _PARENTS)


# -- the shipped head in the engine ----------------------------------------------------------------------


def shipped_draft(model: VisionLanguageModel) -> Draft:
    """The head that lies in the package for this model, with no guess left out because it would not pay.

    Raises:
        ClaimError: there is none.
    """
    from foveate.decode.heads.draft import HeadDraft
    from foveate.decode.heads.file import load_head, shipped_head

    folder = shipped_head(model)
    if folder is None:
        raise ClaimError(f"No draft head is shipped for {model.ref}", fix="Train one: foveate train draft.")
    return HeadDraft(load_head(folder, model), model, least_node=0.0, least_layer=0.0)


def _engine(model: VisionLanguageModel, draft: Draft | None, shape: Shape = (1, 1)) -> Engine:
    depth, nodes = shape
    speculation = None if draft is None else SpeculationSettings(adaptive=False, depth=depth, nodes=nodes)
    config = EngineConfig(
        max_sequences=_AT_ONCE,
        max_step_tokens=4096,
        memory_bytes=2**30,
        pack_weights=False,
        speculation=speculation,
    )
    return Engine(model, config, draft=draft)


def compare_replies(
    model: VisionLanguageModel, prompts: Sequence[DraftPrompt], *, tree: Shape, chain: Shape
) -> dict[str, Any]:
    """Greedy replies with the shipped head, as trees and as chains, and without; and the passes they took."""
    alone = _engine(model, None)
    guessing = {
        "passes": _engine(model, shipped_draft(model), tree),
        "chain_passes": _engine(model, shipped_draft(model), chain),
    }
    parameters = SamplingParameters(max_tokens=_LONGEST)
    found: dict[str, list[Any]] = {
        "kinds": [],
        "tokens": [],
        "passes": [],
        "chain_passes": [],
        "identical": [],
    }
    for first in range(0, len(prompts), _AT_ONCE):
        chunk = prompts[first : first + _AT_ONCE]
        prepared = [model.prepare(one.messages, images=one.images) for one in chunk]
        found["kinds"] += [one.kind for one in chunk]
        plain_ones = _replies(alone, prepared, parameters)
        found["tokens"] += [len(reply) - 1 for reply, _ in plain_ones]
        same = [True] * len(chunk)
        for name, engine in guessing.items():
            replies = _replies(engine, prepared, parameters)
            found[name] += [passes for _, passes in replies]
            same = [
                before and mine == other
                for before, (mine, _), (other, _) in zip(same, replies, plain_ones, strict=True)
            ]
        found["identical"] += same
    for engine in guessing.values():
        engine.check_integrity()
    return found


def _replies(
    engine: Engine, prompts: Sequence[Prompt], parameters: SamplingParameters
) -> list[tuple[list[int], int]]:
    """(tokens, decoding passes) of each reply; passes are counted where an engine guesses."""
    names = [engine.add_request(prompt, parameters) for prompt in prompts]
    answers = engine.run_to_completion()
    replies = []
    for name in names:
        statistics = engine.request_statistics(name)
        assert statistics is not None, "it ended a moment ago"
        replies.append((answers[name][0].token_ids, statistics.decode_passes))
    return replies


def sampled_pairs(
    model: VisionLanguageModel, prompts: Sequence[DraftPrompt], draws: int, seed: int
) -> dict[str, Any]:
    """Chi-square of the first two tokens of replies sampled at temperature 1 with the shipped head, against the
    target's own probabilities from plain forwards. Only the second can have been guessed."""
    engine = _engine(model, shipped_draft(model))
    statistic, freedom = 0.0, 0
    for number, one in enumerate(prompts):
        prompt = model.prepare(one.messages, images=one.images)
        names = [
            engine.add_request(
                prompt,
                SamplingParameters(
                    max_tokens=3,
                    temperature=1.0,
                    n=_AT_ONCE,
                    seed=10_000 * seed + 100 * number + part,
                    ignore_end=True,
                ),
            )
            for part in range(draws // _AT_ONCE)
        ]
        answers = engine.run_to_completion()
        drawn = [tuple(answer.token_ids[:2]) for name in names for answer in answers[name]]
        assert len(drawn) == draws
        firsts = model.logits(prompt)[-1].double().softmax(dim=-1)
        expected: dict[tuple[int, int], float] = {}
        for token in firsts.argsort(descending=True).tolist():
            if draws * float(firsts[token]) < _LEAST_EXPECTED:
                break
            after = replace(prompt, token_ids=[*prompt.token_ids, token])
            seconds = model.logits(after)[-1].double().softmax(dim=-1) * firsts[token] * draws
            for second in (seconds >= _LEAST_EXPECTED).nonzero()[:, 0].tolist():
                expected[token, second] = float(seconds[second])
        counts = {pair: drawn.count(pair) for pair in expected}
        rest = draws - sum(expected.values())
        statistic += sum((counts[pair] - value) ** 2 / value for pair, value in expected.items())
        statistic += (draws - sum(counts.values()) - rest) ** 2 / rest
        freedom += len(expected)
    counters = engine.statistics()
    return {
        "chi_square": statistic,
        "degrees_of_freedom": freedom,
        "p_value": chi_square_tail(statistic, freedom),
        "accepted_length": 1 + counters.accepted_tokens / counters.decode_passes,
    }


def chi_square_tail(statistic: float, freedom: int) -> float:
    """Probability of more, by Wilson and Hilferty (1931): the cube root of chi-square / n is nearly normal."""
    spread = 2 / (9 * freedom)
    return 1 - NormalDist().cdf(((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread))


# -- heads trained here ----------------------------------------------------------------------------------


class School:
    """The lessons of one seed, taught once for all heads that are trained on them.

    Args:
        model: the target; its prompts and pictures depend on the seed alone.
    """

    def __init__(self, model: VisionLanguageModel, plan: Plan, seed: int) -> None:
        self._model, self._plan, self._seed = model, plan, seed
        self._project = output_head(model)
        self._teacher = Teacher(model, reply_tokens=plan.training.reply_tokens)
        kinds = {"caption": 1, "dialogue": 1}
        self._source = WorldPrompts(kinds=kinds, first=3_000_000 + 100_000 * seed)
        tested = WorldPrompts(kinds=kinds, split="test", first=100_000 * seed)
        self._online: list[list[Lesson]] = []
        self._held_out = self._teacher.teach([tested.prompt(number) for number in range(plan.held_out)])

    def _online_steps(self) -> list[list[Lesson]]:
        if not self._online:
            lessons = Lessons(self._teacher, self._source, self._plan.training)
            self._online = [lessons.of_step(step) for step in range(self._plan.training.steps)]
        return self._online

    def train(
        self,
        compress: str | None,
        visual: str | None,
        *,
        stored: bool,
        progress: Callable[[int], None],
        early: bool = False,
    ) -> dict[str, Any]:
        """One head; passes by held-out prompt at the end and, if asked, after a third of the steps."""
        training = replace(self._plan.training, seed=self._seed)
        steps = self._online_steps()
        if stored:  # the same prompts in the same number, of which only the first are ever seen
            kept = [one for step in steps for one in step][: self._plan.stored]
            offline = Lessons(self._teacher, self._source, replace(training, stored=self._plan.stored))
            offline.hold(kept)
            steps = [offline.of_step(step) for step in range(training.steps)]
        compressor = CompressorConfig.parse(compress) if compress else None
        config = HeadConfig.for_target(self._model, compressor=compressor, visual=visual)
        student = Student(config, training, self._project, self._model.device)
        found: dict[str, Any] = {}
        for step, lessons in enumerate(steps):
            if early and step == training.steps // 3:
                found["early_passes"] = [one.passes for one in student.accepted(self._held_out)]
            student.learn(lessons)
            progress(step + 1)
        late = student.accepted(self._held_out)
        return found | {
            "kinds": [one.kind for one in self._held_out],
            "tokens": [one.tokens for one in late],
            "passes": [one.passes for one in late],
            "by_place": sum(late, Accepted()).shares,
            "trained_tokens": student.tokens,
        }
