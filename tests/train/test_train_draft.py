"""Draft heads in training: the lessons are the target's own, the count is the engine's, runs resume bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.decode.heads.config import CompressorConfig, HeadConfig
from foveate.decode.heads.draft import HeadDraft
from foveate.decode.heads.file import load_head
from foveate.decode.heads.layout import HeadLayout
from foveate.decode.settings import SpeculationSettings
from foveate.engine import Engine, EngineConfig, SamplingParameters
from foveate.engine.taps import HiddenStateTaps
from foveate.errors import FoveateError
from foveate.models import load
from foveate.train.draft.accepted import Accepted, walk
from foveate.train.draft.batch import collate
from foveate.train.draft.lessons import Lessons
from foveate.train.draft.loop import DraftTrainer
from foveate.train.draft.objective import distillation, noisy
from foveate.train.draft.plot import plot_draft_training
from foveate.train.draft.prompts import FIRST_FRESH, KINDS, DraftPrompt, FilePrompts, WorldPrompts
from foveate.train.draft.settings import DraftTraining, Objective
from foveate.train.draft.student import Student, output_head
from foveate.train.draft.teaching import Lesson, Teacher

FAST = {
    "batch_size": 2,
    "round_size": 4,
    "reply_tokens": 8,
    "log_every": 1,
    "evaluate_every": 2,
    "save_every": 2,
    "validation_prompts": 3,
    "warmup": 1,
    "depth": 3,
}


@pytest.fixture(scope="module")
def tiny_llava(tmp_path_factory):
    return load(tiny.build_tiny("llava", tmp_path_factory.mktemp("llava")), device="cpu", dtype="float32")


@pytest.fixture(scope="module", params=["llava", "qwen2_vl"])
def model(request, tmp_path_factory):
    folder = tiny.build_tiny(request.param, tmp_path_factory.mktemp(request.param))
    return load(folder, device="cpu", dtype="float32")


class Pictures:
    """Prompts on tiny pictures, which cost nothing."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def prompt(self, number: int) -> DraftPrompt:
        parts = [{"type": "image"}, {"type": "text", "text": f"what colour is number {number % 7}"}]
        return DraftPrompt(
            kind="even" if number % 2 == 0 else "odd",
            messages=[{"role": "user", "content": parts}],
            images=(tiny.picture(56, 56, 100 * self.seed + number),),
            seed=number * 2_654_435_761 % 2**31,
        )

    def describe(self) -> dict:
        return {"source": "tiny pictures", "seed": self.seed}


def lessons_of(model, count: int = 4, **keywords) -> list[Lesson]:
    prompts = [Pictures().prompt(number) for number in range(count)]
    return Teacher(model, reply_tokens=12, **keywords).teach(prompts)


# -- prompts --------------------------------------------------------------------------------------------


def test_world_prompts_are_functions_of_their_number():
    first, again = WorldPrompts(), WorldPrompts()
    kinds = set()
    for number in range(40):
        one, other = first.prompt(number), again.prompt(number)
        assert (one.kind, one.messages, one.seed) == (other.kind, other.messages, other.seed)
        assert one.images[0].tobytes() == other.images[0].tobytes()
        assert one.messages[-1]["role"] == "user"
        assert (len(one.messages) > 1) or one.kind != "dialogue"
        kinds.add(one.kind)
    assert kinds == set(KINDS)
    held_out = WorldPrompts(split="validation", first=0).prompt(3)
    assert held_out.images[0].tobytes() != first.prompt(3).images[0].tobytes()
    assert FIRST_FRESH > 160_000, "fovea-nano was trained on the pictures before"


def test_world_prompts_name_what_is_wrong():
    with pytest.raises(FoveateError, match=r"'captions'.*caption"):
        WorldPrompts(kinds={"captions": 1})
    with pytest.raises(FoveateError, match="one must be above 0"):
        WorldPrompts(kinds={"caption": 0})
    assert {WorldPrompts(kinds={"grounding": 1}).prompt(n).kind for n in range(3)} == {"grounding"}


def write_prompts(folder: Path, *rows: object) -> Path:
    tiny.picture(30, 20, 1).save(folder / "a.png")
    path = folder / "prompts.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_prompts_of_a_file_each_come_once_before_any_again(tmp_path):
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "one"}]},
        {"role": "assistant", "content": "answer"},
    ]
    path = write_prompts(
        tmp_path,
        {"image": "a.png", "prompt": "two"},
        {"prompt": "three"},
        {"images": ["a.png"], "messages": turns},
        "",
    )
    prompts = FilePrompts(path, seed=1)
    assert len(prompts) == 3

    def asked(number: int) -> str:
        content = prompts.prompt(number).messages[-1]["content"]
        return content if isinstance(content, str) else content[-1]["text"]

    for turn in range(4):
        assert {asked(3 * turn + place) for place in range(3)} == {"one", "two", "three"}
    assert [asked(number) for number in (7, 2, 7, 2)][:2] == [asked(7), asked(2)]  # whatever was asked before
    by_text = {asked(number): prompts.prompt(number) for number in range(3)}
    assert by_text["two"].images == (str(tmp_path / "a.png"),) and by_text["three"].images == ()
    assert len(by_text["one"].messages) == 1, "the answer is to be the target's own"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "Line 1 .*is not JSON"),
        ([1], "is not an object"),
        ({"prompt": "x", "image": 3}, "`image` one path"),
        ({"prompt": "x", "image": "b.png"}, "names a picture that is not there"),
        ({"promt": "x"}, "asks nothing.*prompt"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "asks nothing"),
    ],
)
def test_prompts_of_a_file_name_what_is_wrong(tmp_path, row, says):
    with pytest.raises(FoveateError, match=f"(?s){says}"):
        FilePrompts(write_prompts(tmp_path, row))


def test_a_file_without_prompts_is_refused(tmp_path):
    with pytest.raises(FoveateError, match="holds no prompts"):
        FilePrompts(write_prompts(tmp_path))
    with pytest.raises(FoveateError, match="cannot be read"):
        FilePrompts(tmp_path / "none.jsonl")


# -- lessons --------------------------------------------------------------------------------------------


def test_a_lesson_is_what_the_target_computes(model):
    """Replies equal the reference's; states and taps those of one plain forward over prompt and reply."""
    taps, compared = (0, 2), 0
    prompts = [Pictures().prompt(number) for number in range(4)]
    for prompt, lesson in zip(prompts, lessons_of(model, tap_layers=taps), strict=True):
        prepared = model.prepare(prompt.messages, images=prompt.images)
        reply = [token.id for token in model.generate(prepared, max_new_tokens=12)]
        assert list(lesson.tokens) == prepared.token_ids + reply
        assert lesson.reply_length == len(reply) and lesson.layout.length == len(lesson.tokens) - 1
        if model.visual_token_ids & set(reply):
            continue  # a random model may write one, which the engine reads as text and `merge` cannot
        compared += 1
        prepared.token_ids = list(lesson.tokens[:-1])
        features = model.encode(prepared.media)
        with torch.inference_mode(), HiddenStateTaps(model, taps) as listening:
            embeds = model.merge(prepared, features)
            hidden = model.run_language_model(
                embeds,
                model.positions(prepared),
                model.attention_state(prepared),
                **model.language_keywords(prepared, features),
            )
        assert torch.allclose(lesson.embeds, embeds[0], atol=1e-5)
        assert torch.allclose(lesson.hidden, hidden[0], atol=1e-4)
        for layer in taps:
            assert torch.allclose(
                lesson.taps[layer], listening.states[layer].reshape(hidden[0].shape), atol=1e-4
            )
        (run,) = lesson.layout.runs
        assert {prepared.token_ids[place] for place in range(run.start, run.stop)} == {model.image_token_id}
    assert compared >= 2


def test_a_share_of_the_replies_is_sampled_by_the_seed_of_the_prompt(tiny_llava):
    teacher = Teacher(tiny_llava, reply_tokens=12)
    prompts = [Pictures().prompt(number) for number in range(12)]
    greedy = [one.tokens for one in teacher.teach(prompts)]
    half = [one.tokens for one in teacher.teach(prompts, sampled=0.5)]
    assert half == [one.tokens for one in teacher.teach(prompts[:5] + prompts[5:], sampled=0.5)]
    assert 0 < sum(a != b for a, b in zip(greedy, half, strict=True)) < 12
    assert all(a == b for a, b, p in zip(greedy, half, prompts, strict=True) if p.seed % 4096 >= 2048)


def test_a_batch_names_each_guess_by_the_token_behind_it(tiny_llava):
    lessons = lessons_of(tiny_llava, tap_layers=(0, 2))
    config = HeadConfig.for_target(tiny_llava, kind="eagle3", taps=(0, 2))
    batch = collate(lessons, config)
    assert batch.features.shape[-1] == 2 * batch.hidden.shape[-1] and not batch.hidden.is_inference()
    for row, one in enumerate(lessons):
        places = batch.replied[row].nonzero()[:, 0].tolist()
        assert places == list(range(one.layout.prompt, len(one.tokens) - 1))
        assert batch.following[row, places].tolist() == list(one.tokens[one.layout.prompt + 1 :])
        assert batch.reached(2)[row].nonzero()[:, 0].tolist() == places[2:]
        end = one.layout.length
        assert torch.equal(batch.features[row, :end, : batch.hidden.shape[-1]], one.taps[0])


# -- counting -------------------------------------------------------------------------------------------


def lesson_of(prompt: int, reply: int) -> Lesson:
    nothing = torch.empty(0, 1)
    return Lesson(
        kind="made",
        tokens=tuple(range(prompt + reply)),
        layout=HeadLayout(length=prompt + reply - 1, prompt=prompt),
        embeds=nothing,
        hidden=nothing,
        taps={},
    )


@given(st.integers(1, 4), st.integers(1, 12), st.integers(1, 5), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_a_walk_gives_every_token_once(prompt, reply, depth, rng):
    rate = rng.random()
    hits = [[rng.random() < rate for _ in range(prompt + reply - 1)] for _ in range(depth)]
    found = walk(hits, lesson_of(prompt, reply))
    assert found.tokens == reply - 1
    assert -(-found.tokens // (depth + 1)) <= found.passes <= found.tokens
    assert all(right <= tried for right, tried in zip(found.right, found.tried, strict=True))
    all_right = walk([[True] * (prompt + reply)] * depth, lesson_of(prompt, reply))
    assert all_right.passes == -(-(reply - 1) // (depth + 1))
    assert walk([[False] * (prompt + reply)] * depth, lesson_of(prompt, reply)).length == 1.0


def test_counts_add_up():
    one = Accepted(tokens=6, passes=2, tried=[2, 2], right=[2, 1])
    both = one + Accepted(tokens=2, passes=2, tried=[2, 0, 1], right=[0, 0, 1])
    assert (both.tokens, both.passes, both.length) == (8, 4, 2.0)
    assert both.shares == [0.5, 0.5, 1.0]
    assert sum([one], Accepted()).shares == one.shares and Accepted().length == 1.0


@pytest.mark.parametrize(("model", "kind"), [("llava", "eagle2"), ("qwen2_vl", "eagle3")], indirect=["model"])
def test_what_is_counted_is_what_the_engine_counts(model, kind):
    """A head fitted for a moment on the replies themselves: the walk's passes are the engine's, and most guesses are
    right (near 0 would be a head whose features, positions or embeddings are mis-wired)."""
    config = HeadConfig.for_target(model, kind=kind)
    lessons = lessons_of(model, 3, tap_layers=config.taps)
    objective = replace(Objective.of_kind(kind), feature_noise=0.0, token_weight=1.0)
    training = DraftTraining(
        steps=120, batch_size=3, round_size=3, learning_rate=4e-3, objective=objective, depth=3
    )
    student = Student(config, training, output_head(model), model.device)
    for _ in range(70):
        student.learn(lessons)
    counts = student.accepted(lessons)
    assert sum(counts, Accepted()).length > 2.5
    engine = Engine(
        model,
        EngineConfig(
            max_sequences=1, prefix_caching=False, pack_weights=False,
            speculation=SpeculationSettings(adaptive=False, depth=3, nodes=3),
        ),
        draft=HeadDraft(student.head.eval().requires_grad_(False), model, least_node=0.0, least_layer=0.0),
    )  # fmt: skip
    for number, (lesson, counted) in enumerate(zip(lessons, counts, strict=True)):
        prompt = Pictures().prompt(number)
        name = engine.add_request(prompt.messages, SamplingParameters(max_tokens=12), images=prompt.images)
        [answer] = engine.run_to_completion()[name]
        assert answer.token_ids == list(lesson.tokens[lesson.layout.prompt :])
        assert engine.request_statistics(name).decode_passes == counted.passes


# -- learning -------------------------------------------------------------------------------------------


def test_noise_is_a_share_of_the_features(tiny_llava):
    features = torch.randn(4, 50, 30) * 3
    assert noisy(features, 0.0) is features
    off = (noisy(features, 0.2) - features).abs()
    assert 0.29 < off.max() <= 0.301 * 1.05


@pytest.mark.parametrize(
    ("compressor", "visual"),
    [(None, "text"), (CompressorConfig.parse("pool:4"), None), (CompressorConfig.parse("weighted"), None)],
)
def test_all_of_a_head_is_trained(tiny_llava, compressor, visual):
    """Also a compressor; and nothing of the target."""
    config = HeadConfig.for_target(tiny_llava, compressor=compressor, visual=visual)
    student = Student(config, DraftTraining(), output_head(tiny_llava), tiny_llava.device)
    loss = distillation(
        student.head, collate(lessons_of(tiny_llava), config), output_head(tiny_llava), Objective(steps=2)
    )
    loss.total.backward()
    without = {
        name for name, p in student.head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    }
    # A gate begins undecided, its matrix at 0: what stands before that learns from the second step on.
    assert without <= ({"visual_norm.weight"} if visual == "text" else {"compressor.gate.norm.weight"})
    assert all(p.grad is None for p in tiny_llava.hf_model.parameters())


def test_replies_without_a_second_token_are_refused(tiny_llava):
    config = HeadConfig.for_target(tiny_llava)
    student = Student(config, DraftTraining(), output_head(tiny_llava), tiny_llava.device)
    [lesson] = lessons_of(tiny_llava, 1)
    short = replace(lesson, tokens=lesson.tokens[: lesson.layout.prompt + 1])
    with pytest.raises(FoveateError, match="nothing to guess"):
        student.learn([short, short])


def test_settings_name_what_is_wrong():
    for wrong, says in (
        ({"steps": 0}, "1 or more"),
        ({"batch_size": 3}, "no whole number of batches of 3"),
        ({"stored": 300}, "256 at a time"),
        ({"sampled": 2.0}, "between 0 and 1"),
        ({"objective": Objective(steps=16), "reply_tokens": 1}, "2 tokens or more"),
    ):
        with pytest.raises(FoveateError, match=f"(?s){says}"):
            DraftTraining(**wrong)
    with pytest.raises(FoveateError, match="steps 1 to 16"):
        Objective(steps=17)
    with pytest.raises(FoveateError, match="above 0"):
        Objective(state_weight=0.0, token_weight=0.0)


def test_online_lessons_are_new_and_stored_ones_come_again(tiny_llava):
    teacher, training = Teacher(tiny_llava, reply_tokens=8), DraftTraining(steps=9, **FAST)

    def seen(stored: int | None) -> list[list[tuple[int, ...]]]:
        made = Lessons(teacher, Pictures(), replace(training, stored=stored))
        return [[one.tokens for one in made.of_step(step)] for step in range(6)]

    online, offline = seen(None), seen(4)
    assert len({tokens for step in online for tokens in step}) == 12
    for epoch in range(3):
        pairs = offline[2 * epoch : 2 * epoch + 2]
        assert sorted(tokens for step in pairs for tokens in step) == sorted(
            tokens for step in online[:2] for tokens in step
        )
    twice = Lessons(teacher, Pictures(), replace(training, reuse=2))
    assert sorted(one.tokens for step in (2, 3) for one in twice.of_step(step)) == sorted(
        tokens for step in online[:2] for tokens in step
    )
    assert sorted(one.tokens for step in (4, 5) for one in twice.of_step(step)) == sorted(
        tokens for step in online[2:4] for tokens in step
    )
    late = Lessons(teacher, Pictures(), training)  # a run that goes on begins in the middle
    assert [one.tokens for one in late.of_step(3)] == online[3]


def test_a_resumed_run_equals_an_uninterrupted_one(tiny_llava, tmp_path):
    config = HeadConfig.for_target(tiny_llava, compressor=CompressorConfig.parse("select"))

    def trainer(folder: Path, steps: int, **changes) -> DraftTrainer:
        training = DraftTraining(steps=steps, decay_share=1e-9, sampled=0.5, **{**FAST, **changes})
        return DraftTrainer(
            tiny_llava, config, training, folder, source=Pictures(), held_out=Pictures(seed=1)
        )

    whole = trainer(tmp_path / "whole", 5)
    whole.run()
    trainer(tmp_path / "parts", 3).run()
    parts = trainer(tmp_path / "parts", 5)
    assert parts.step == 3
    folder = parts.run()
    for name, value in whole.student.head.state_dict().items():
        assert torch.equal(value, parts.student.head.state_dict()[name]), name
    rows = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "validation" in row] == [0, 2, 3, 4, 5]
    assert set(rows[0]["validation"]["by_kind"]) == {"even", "odd"}
    assert (
        plot_draft_training(tmp_path / "parts" / "log.jsonl", tmp_path / "plot.png").stat().st_size > 10_000
    )
    recipe = json.loads((folder / "recipe.json").read_text())
    assert recipe["steps"] == 5 and recipe["prompts"] == {"source": "tiny pictures", "seed": 0}
    assert recipe["reply_tokens_seen"] == parts.student.tokens == whole.student.tokens
    again = load_head(folder, tiny_llava)
    for name, value in again.state_dict().items():
        assert torch.allclose(value, parts.student.head.state_dict()[name], atol=2e-3), name
    with pytest.raises(FoveateError, match="it has done 5 steps, 4 were asked for"):
        trainer(tmp_path / "parts", 4)
    with pytest.raises(FoveateError, match=r"(?s)another training.*seed: 0 there, 1 here"):
        trainer(tmp_path / "parts", 6, seed=1)


def test_the_rate_warms_up_and_falls():
    training = DraftTraining(steps=100, warmup=10, decay_share=0.5, learning_rate=1.0)
    assert training.rate(0) == pytest.approx(0.1) and training.rate(30) == 1.0
    assert training.rate(75) == pytest.approx(0.5) and training.rate(99) == pytest.approx(0.02)
