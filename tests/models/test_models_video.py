"""Videos against plain transformers on the same tiny checkpoint: pixels, positions, logits, greedy tokens, salience.

`--write-parity`: see `test_models_parity.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from parity_figures import NEW_TOKENS, TOLERANCE, note
from PIL import Image
from reference_video import ask, clip, moving, plain_video_inputs, qwen_size

from foveate.media import video_of
from foveate.models import load
from foveate.models.records import Prompt

QWEN = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
FAMILIES = [*QWEN, "llava_onevision", "internvl"]
# One fits the tower as it is, the others are resized; odd counts, for Qwen pads them.
CLIPS = [(112, 56, 4), (90, 130, 3), (200, 60, 5)]


def compare(pair: Any, family: str, prompt: Prompt, inputs: dict[str, Any], measured: dict) -> list[int]:
    """Asserts equal logits and greedy tokens, notes how equal, and gives the tokens."""
    with torch.no_grad():
        expected = pair.theirs(**inputs).logits[0]
        generated = pair.theirs.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)[0]
    logits = pair.ours.logits(prompt)
    assert logits.shape == expected.shape
    difference = float((logits - expected).abs().max())
    ours = [token.id for token in pair.ours.generate(prompt, max_new_tokens=NEW_TOKENS)]
    theirs = generated[len(prompt.token_ids) :].tolist()
    note(measured, family, "video_difference", difference)
    note(measured, family, "greedy_mismatches", float(ours != theirs))
    assert difference <= TOLERANCE
    assert ours == theirs
    return ours


@pytest.mark.parametrize("family", FAMILIES)
def test_a_video_alone(family: str, pair_of: Callable, measured: dict) -> None:
    pair = pair_of(family)
    answers = set()
    for seed, (width, height, count) in enumerate(CLIPS):
        video = clip(width, height, count, seed)
        prompt = pair.ours.prepare(ask("video"), videos=[video])
        [item] = prompt.media
        assert item.grid.is_video and prompt.token_ids.count(pair.ours.video_token_id) == item.grid.tokens
        inputs = plain_video_inputs(
            family, pair.folder, prompt.token_ids, [video.frames], seconds_per_step=1.0
        )
        answers.add(tuple(compare(pair, family, prompt, inputs, measured)))
    assert len(answers) == len(CLIPS), "the video makes no difference"


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_and_videos_in_one_prompt(family: str, pair_of: Callable, measured: dict) -> None:
    pair = pair_of(family)
    pictures = [tiny.picture(*size, 60 + index) for index, size in enumerate([(56, 56), (90, 40)])]
    # transformers stacks the clips of OneVision and cannot take unequal counts.
    counts = (4, 4) if family == "llava_onevision" else (4, 3)
    videos = [clip(112, 56, count, 70 + count + index) for index, count in enumerate(counts)]
    kinds = ("image", "video", "image", "video")
    prompt = pair.ours.prepare(ask(*kinds), images=pictures, videos=videos)
    assert [item.grid.is_video for item in prompt.media] == [False, True, False, True]
    inputs = plain_video_inputs(
        family,
        pair.folder,
        prompt.token_ids,
        [video.frames for video in videos],
        images=pictures,
        seconds_per_step=1.0,
        order="iviv",
    )
    compare(pair, family, prompt, inputs, measured)
    swapped = pair.ours.prepare(ask(*kinds), images=pictures, videos=videos[::-1])
    last = [pair.ours.logits(one)[-1] for one in (prompt, swapped)]
    assert (last[0] - last[1]).abs().max() > 100 * TOLERANCE, "the order of the videos makes no difference"


@pytest.mark.parametrize("family", QWEN)
@pytest.mark.parametrize("rate", [1.0, 2.0, 3.0, 4.0])
def test_positions_equal_rope_index(family: str, rate: float, pair_of: Callable) -> None:
    """Qwen2.5-VL at every rate; the others do not read it, Qwen3-VL writes the seconds into the prompt."""
    pair = pair_of(family)
    video = clip(112, 56, 8, 3, rate)
    prompt = pair.ours.prepare(ask("image", "video"), images=[tiny.picture(56, 56, 1)], videos=[video])
    inputs = plain_video_inputs(
        family,
        pair.folder,
        prompt.token_ids,
        [video.frames],
        images=[tiny.picture(56, 56, 1)],
        seconds_per_step=2 / rate,
    )
    extra = {"second_per_grid_ts": inputs["second_per_grid_ts"]} if family == "qwen2_5_vl" else {}
    expected, deltas = pair.theirs.model.get_rope_index(
        inputs["input_ids"],
        inputs["mm_token_type_ids"],
        image_grid_thw=inputs["image_grid_thw"],
        video_grid_thw=inputs["video_grid_thw"],
        **extra,
    )
    positions = pair.ours.positions(prompt)
    assert torch.equal(positions, expected)
    assert int(positions.max()) + 1 == len(prompt.token_ids) + int(deltas)


def test_uneven_times_reach_the_positions_of_qwen2_5(pair_of: Callable) -> None:
    model = pair_of("qwen2_5_vl").ours
    rate = model.config.vision_config.tokens_per_second
    video = video_of(moving(112, 56, 6, 1), [0.0, 0.1, 2.5, 3.0, 10.0, 10.5])
    prompt = model.prepare(ask("video"), videos=[video])
    first, last = prompt.spans[0]
    times = model.positions(prompt)[0, 0, first:last].reshape(3, -1)
    assert (times == times[:, :1]).all()
    assert (times[:, 0] - times[0, 0]).tolist() == [0, int(2.5 * rate), 10 * rate]


def test_seconds_reach_the_words_of_qwen3(pair_of: Callable) -> None:
    model = pair_of("qwen3_vl").ours
    video = video_of(moving(112, 56, 5, 1), [0.0, 0.5, 2.0, 4.0, 9.0])
    prompt = model.prepare(ask("video"), videos=[video])
    words = model.tokenizer.decode(prompt.token_ids)
    # The middle of each pair, and of the last frame alone.
    assert [words.count(f"<{time} seconds><|vision_start|>") for time in ("0.2", "3.0", "9.0")] == [1, 1, 1]
    assert words.count("<|vision_start|>") == words.count("<|vision_end|>") == 3


def test_frames_of_internvl_are_numbered(pair_of: Callable) -> None:
    model = pair_of("internvl").ours
    prompt = model.prepare(ask("video"), videos=[clip(56, 56, 3, 1)])
    frame = "<img>" + "<IMG_CONTEXT>" * 4 + "</img>"
    assert f"Frame1: {frame}\nFrame2: {frame}\nFrame3: {frame}\n(0)" in model.tokenizer.decode(
        prompt.token_ids
    )


def test_frames_of_onevision_are_pooled(pair_of: Callable) -> None:
    """Four tokens become one, by their mean (4 x 4 patches to 2 x 2), and a newline ends the video."""
    model = pair_of("llava_onevision").ours
    prompt = model.prepare(ask("video"), videos=[clip(56, 56, 3, 1)])
    [item] = prompt.media
    assert (item.grid.frames, item.grid.rows, item.grid.cols, item.grid.tokens) == (3, 2, 2, 13)
    [encoded] = model.encode(prompt.media, salience=True)
    assert torch.equal(encoded.features[-1], model.hf_model.model.image_newline)
    assert encoded.salience is not None and float(encoded.salience[-1]) == 0
    # The salience of a pooled token is the mean of its four: of the 16 of a frame, whose sum is 1.
    assert torch.allclose(encoded.salience[:-1].reshape(3, -1).sum(dim=1) * 4, torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_encoding_together_equals_encoding_alone(family: str, pair_of: Callable) -> None:
    model = pair_of(family).ours
    videos = [clip(*size, seed) for seed, size in enumerate(CLIPS)]
    prompt = model.prepare(
        ask("video", "image", "video", "video"), images=[tiny.picture(90, 40, 9)], videos=videos
    )
    together = model.encode(prompt.media, salience=True)
    for item, batched in zip(prompt.media, together, strict=True):
        [alone] = model.encode([item], salience=True)
        assert torch.allclose(alone.features, batched.features, atol=1e-5)
        assert torch.allclose(alone.salience, batched.salience, atol=1e-6)
        assert batched.salience.std() > 0 and batched.salience.shape == (item.grid.tokens,)


@pytest.mark.parametrize("family", QWEN)
def test_salience_of_a_step_is_that_of_the_step_alone(family: str, pair_of: Callable) -> None:
    """The tower attends within a step, so that a video of one step hears what a longer one hears of it."""
    model = pair_of(family).ours
    long, short = clip(64, 64, 6, 5), video_of(moving(64, 64, 6, 5)[2:4], [0.0, 0.5])
    rows = []
    for video in (long, short):
        prompt = model.prepare(ask("video"), videos=[video])
        [encoded] = model.encode(prompt.media, salience=True)
        rows.append(encoded.salience.reshape(encoded.grid.frames, -1))
    assert torch.allclose(rows[0][1], rows[1][0], atol=1e-6)
    assert not torch.allclose(rows[0][0], rows[0][1], atol=1e-6)


@pytest.mark.parametrize("family", QWEN)
def test_pictures_come_back_from_patches_and_can_be_made_smaller(family: str, pair_of: Callable) -> None:
    model = pair_of(family).ours
    side = model.side
    video = clip(4 * side, 2 * side, 4, 2)
    [item] = model.prepare(ask("video"), videos=[video]).media
    pictures = model.picture(item)
    assert pictures.shape == (4, 3, item.grid.pixel_height, item.grid.pixel_width)
    smaller = model.resized(item, 1, 2)
    assert (smaller.grid.tokens, smaller.grid.frames, smaller.grid.times) == (4, 2, item.grid.times)
    shrunk = torch.nn.functional.interpolate(pictures, size=(side, 2 * side), mode="bilinear", antialias=True)
    assert torch.allclose(model.picture(smaller), shrunk, atol=1e-6)
    [encoded] = model.encode([smaller])
    assert encoded.features.shape[0] == 4


def test_frames_are_resized_as_pillow_resizes_them(pair_of: Callable) -> None:
    """Two implementations of one published filter: a level apart at most."""
    model = pair_of("internvl").ours
    video = clip(131, 77, 2, 4)
    [item] = model.prepare(ask("video"), videos=[video]).media
    settings = model.frame_settings
    mean, deviation = (torch.tensor(settings[name])[:, None, None] for name in ("image_mean", "image_std"))
    levels = (item.tensors["pixel_values"] * deviation + mean) * 255
    for ours, frame in zip(levels, video.frames, strict=True):
        theirs = np.array(Image.fromarray(frame).resize((56, 56), Image.Resampling.BICUBIC))
        assert np.abs(ours.permute(1, 2, 0).numpy() - theirs).max() < 1.01


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("size", [(200, 90), (20, 400), (640, 480), (33, 33)])
def test_qwen3_shares_one_budget_among_all_frames(
    count: int, size: tuple[int, int], tiny_folder: Callable
) -> None:
    model = load(tiny_folder("qwen3_vl"), device="cpu")
    grid = model.video_grid(*size, [float(index) for index in range(count)])
    settings = {"size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 40}}
    width, height = qwen_size("qwen3_vl", max(count, 2), *size, settings, 32)
    assert (grid.pixel_width, grid.pixel_height, grid.frames) == (width, height, -(-count // 2))
