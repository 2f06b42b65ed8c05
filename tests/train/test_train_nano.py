"""The recipe of fovea-nano: attention and packing equal the plain way, runs resume exactly, exports load."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from foveate.errors import FoveateError
from foveate.train.nano.attention import ExplicitAttention, packed_attention
from foveate.train.nano.batches import GRID, NanoBatches, Packer, to_pixels, training_example
from foveate.train.nano.dense import CHARACTERS, patch_labels, patch_objects, scene_labels
from foveate.train.nano.loop import NanoTrainer, NanoTraining
from foveate.train.nano.model import NanoTrainee, export
from foveate.train.nano.plot import plot_training, read_log
from foveate.train.nano.tokenizer import build_tokenizer
from foveate.world import make_example
from foveate.world.vocabulary import COLOURS, SHAPES

FAST = {
    "batch_size": 2,
    "compile": False,
    "evaluate_every": 4,
    "save_every": 2,
    "validation_pictures": 2,
    "log_every": 1,
    "warmup": 2,
}


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(scenes=60)


@pytest.fixture(scope="module")
def trainee(tokenizer):
    torch.manual_seed(0)
    built = NanoTrainee(tokenizer)
    with torch.no_grad():  # weights large enough that every token depends on the picture
        for parameter in built.llava.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 1.2 / parameter.shape[1] ** 0.5)
    return built.eval()


@pytest.mark.parametrize("shape", [(1, 1, 3, 5, 8), (2, 3, 7, 7, 16), (2, 4, 33, 70, 64)])
def test_explicit_attention_equals_the_reference_with_gradients(shape):
    batch, heads, length, total, width = shape
    torch.manual_seed(length)
    inputs = [torch.randn(batch, heads, n, width, dtype=torch.float64) for n in (length, total, total)]
    bias = torch.randn(batch, 1, length, total, dtype=torch.float64)
    ours, theirs = ([t.clone().requires_grad_() for t in inputs] for _ in range(2))
    first = ExplicitAttention.apply(*ours, bias)
    second = F.scaled_dot_product_attention(*theirs, attn_mask=bias)
    assert torch.allclose(first, second, atol=1e-10)
    gradient = torch.randn_like(first)
    first.backward(gradient)
    second.backward(gradient)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine.grad, other.grad, atol=1e-10)


def test_packed_attention_equals_one_masked_call():
    torch.manual_seed(1)
    query, key, value = (torch.randn(2, 2, 12, 8) for _ in range(3))
    own = torch.full((2, 1, 7, 7), -1e4).triu(1)
    text = torch.cat([torch.zeros(2, 1, 7, 5), own], dim=3)
    packed, _ = packed_attention(torch.nn.Identity(), query, key, value, text)
    opening = torch.cat([torch.full((2, 1, 5, 5), -1e4).triu(1), torch.full((2, 1, 5, 7), -1e4)], dim=3)
    whole = F.scaled_dot_product_attention(query, key, value, attn_mask=torch.cat([opening, text], dim=2))
    assert torch.allclose(packed, whole.transpose(1, 2), atol=1e-6)


@torch.no_grad()
def test_packed_dialogues_equal_one_prompt_each(tokenizer, trainee):
    """What training sees behind a shared image is what a user's single prompt gives in plain transformers."""
    examples = [make_example("shapes", "train", i, questions=4) for i in (3, 11)]
    batch = Packer(tokenizer).pack(examples)
    hidden = trainee.read(trainee.see(batch.pixels)[1], batch.token_ids, batch.mask(), batch.all_positions())
    packed = trainee.llava.lm_head(hidden)
    text = trainee.llava.model.language_model.config
    vision = trainee.llava.model.vision_tower.config
    saved = text._attn_implementation, vision._attn_implementation
    text._attn_implementation = vision._attn_implementation = "sdpa"
    try:
        for row, example in enumerate(examples):
            for number, dialogue in enumerate(example.dialogues, start=1):
                messages = [
                    {"role": role, "content": words}
                    for turn in dialogue
                    for role, words in (("user", turn.text), ("assistant", turn.answer))
                ]
                messages[0]["content"] = "<image>" * GRID * GRID + messages[0]["content"]
                ids = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)[
                    "input_ids"
                ]
                single = trainee.llava(
                    input_ids=ids, pixel_values=batch.pixels[row : row + 1], use_cache=False
                ).logits[0, 2 + GRID * GRID :]
                mine = packed[row][batch.segments[row] == number]
                assert mine.shape == single.shape
                assert (mine - single).abs().max() < 1e-3
                assert torch.equal(mine.argmax(-1), single.argmax(-1))
    finally:
        text._attn_implementation, vision._attn_implementation = saved


def test_targets_are_the_answers(tokenizer):
    example = make_example("page", "train", 5, questions=6, caption="first")
    batch = Packer(tokenizer).pack([example])
    for number, dialogue in enumerate(example.dialogues, start=1):
        places = (batch.segments[0] == number) & (batch.targets[0] >= 0)
        said = tokenizer.decode(batch.targets[0][places])
        assert said == "".join(turn.answer + "<end>" for turn in dialogue)


def test_capitals_and_digits_are_spelt(tokenizer):
    assert tokenizer.tokenize("HOUSE 42") == ["H", "O", "U", "S", "E", "Ġ", "4", "2"]
    for text in ("What colour is the star?", "naïve “quotes” 漢字 🙂", "a\n b\tc  d"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_patch_labels_lie_on_their_objects():
    example = make_example("shapes", "train", 2)
    labels, offsets = patch_labels(example, GRID)
    cell = 168 / GRID
    for row, column in ((r, c) for r in range(GRID) for c in range(GRID)):
        middle = example.rendering.ids[int((row + 0.5) * cell), int((column + 0.5) * cell)]
        if middle >= 0:
            item = example.scene.objects[middle]
            assert labels[0, row, column] == list(COLOURS).index(item.colour) + 1
            assert labels[1, row, column] == SHAPES.index(item.shape) + 1
            assert offsets[0, row, column] * 3 + column + 0.5 == pytest.approx(item.x * GRID, abs=1e-4)
    assert (labels[0] == 0).any() and (labels[0] > 0).any()
    present = {
        list(COLOURS).index(o.colour) * len(SHAPES) + SHAPES.index(o.shape) for o in example.scene.objects
    }
    assert set(scene_labels(example)[: len(COLOURS) * len(SHAPES)].nonzero()[0]) == present


def test_look_maps_cover_what_is_asked_about(tokenizer):
    drawn = (make_example("shapes", "train", i) for i in range(100))
    example = next(e for e in drawn if any(q.family == "count" and q.answer == "2" for q in e.questions()))
    batch = Packer(tokenizer).pack([example])
    asked = [turn for dialogue in example.dialogues for turn in dialogue]
    assert len(batch.look_rows) == len(asked)
    under = patch_objects(example, GRID).flatten()
    for place, shown, turn in zip(batch.look_places, batch.look_maps, asked, strict=True):
        assert batch.token_ids[0, place] == tokenizer.convert_tokens_to_ids("<assistant>")
        assert set(under[shown.numpy()]) == set(turn.object_ids)
        if turn.family == "count":
            assert len(turn.object_ids) == int(turn.answer)


def test_printed_letters_are_labelled():
    example = next(e for i in range(20) if (e := make_example("page", "train", i)).scene.texts)
    labels, _ = patch_labels(example, GRID)
    seen = {CHARACTERS[c - 1] for c in labels[4].flatten() if c}
    assert seen == set("".join(t.text for t in example.scene.texts))


def test_pictures_of_any_size_become_the_tower_s(tokenizer):
    import random

    for index in range(12):
        pixels = to_pixels(training_example(index, random.Random(index)).rendering.rgb)
        assert pixels.shape == (3, 168, 168) and pixels.min() >= -1 and pixels.max() <= 1


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole = NanoTrainer(NanoTraining(steps=4, tower_steps=2, **FAST), tmp_path / "whole")
    whole.run()
    NanoTrainer(NanoTraining(steps=2, tower_steps=2, decay_share=1e-9, **FAST), tmp_path / "parts").run()
    resumed = NanoTrainer(NanoTraining(steps=4, tower_steps=2, **FAST), tmp_path / "parts")
    assert resumed.step == 2
    # The first part must not have decayed where the whole run had not.
    assert NanoTraining(steps=4, tower_steps=2, **FAST).rate(1) == NanoTraining(
        steps=2, tower_steps=2, decay_share=1e-9, **FAST
    ).rate(1)
    resumed.run()
    for name, value in whole.trainee.state_dict().items():
        assert torch.allclose(value, resumed.trainee.state_dict()[name], atol=1e-5), name
    rows = read_log(tmp_path / "parts" / "log.jsonl")
    assert [r["step"] for r in rows if "validation" in r][-1] == 4
    assert plot_training(tmp_path / "parts" / "log.jsonl", tmp_path / "plot.png").stat().st_size > 10_000
    recipe = json.loads((tmp_path / "parts" / "model" / "recipe.json").read_text())
    assert (recipe["steps"], recipe["pictures"]) == (4, 8)
    assert [(h["from_step"], h["settings"]["steps"]) for h in recipe["history"]] == [(0, 2), (2, 4)]
    with pytest.raises(FoveateError, match="it has done 4 steps, 3 were asked for"):
        NanoTrainer(NanoTraining(steps=3, **FAST), tmp_path / "parts")
    with pytest.raises(FoveateError, match="another seed"):
        NanoTrainer(NanoTraining(steps=4, seed=1, **FAST), tmp_path / "parts")


def test_a_run_can_start_from_an_exported_model(tokenizer, trainee, tmp_path):
    export(trainee.llava, tokenizer, tmp_path / "model")
    trainer = NanoTrainer(NanoTraining(steps=3, **FAST), tmp_path / "run", start_from=tmp_path / "model")
    theirs = trainee.llava.state_dict()
    for name, value in trainer.trainee.llava.state_dict().items():
        assert torch.allclose(value, theirs[name], atol=2e-3, rtol=1e-3), name
    assert trainer.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert trainer.history[0]["start_from"] == str(tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["stranger"] = weights.pop(next(iter(weights)))
    save_file(weights, tmp_path / "model" / "model.safetensors")
    with pytest.raises(FoveateError, match="is no fovea-nano"):
        NanoTrainer(NanoTraining(steps=3, **FAST), tmp_path / "other", start_from=tmp_path / "model")


@pytest.mark.parametrize(("tower_steps", "key"), [(100, "dense_loss"), (0, "answer_loss")])
def test_steps_on_one_batch_learn_it(tmp_path, tower_steps, key):
    settings = NanoTraining(steps=100, tower_steps=tower_steps, decay_share=0.01, **FAST)
    trainer = NanoTrainer(settings, tmp_path)
    batch = NanoBatches(trainer.tokenizer, batch_size=2, start=0, count=1)[0]
    losses = []
    for trainer.step in range(25):
        losses.append(trainer._train_step(batch)[key])
    assert losses[-1] < 0.6 * losses[0]


def test_the_export_fits_its_promise_and_loads_in_transformers(tokenizer, trainee, tmp_path):
    from transformers import AutoTokenizer, LlavaForConditionalGeneration

    size = export(trainee.llava, tokenizer, tmp_path)
    assert size <= 16_000_000
    loaded = LlavaForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    original = trainee.llava.state_dict()
    for name, value in loaded.state_dict().items():
        assert torch.allclose(value, original[name], atol=2e-3, rtol=1e-3), name
    again = AutoTokenizer.from_pretrained(tmp_path)
    question = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}]
    rendered = again.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    assert rendered == "<bos><user><image>How many?<end><assistant>"
