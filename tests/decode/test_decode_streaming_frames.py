"""Frames of a stream cut to a budget: equal to plain reduced forwards, within a bound that knows of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import tiny
import torch

from foveate.decode.streaming import StreamDefaults, StreamError, StreamingSession, StreamSettings
from foveate.decode.streaming.frames import shortened
from foveate.decode.streaming.state import Piece
from foveate.decode.streaming.window import Kind
from foveate.errors import ReductionError
from foveate.models import load
from foveate.models.records import PreparedMedia, Prompt, VisualGrid
from foveate.reduce import get_reducer, reduce_prompt, reduced_logits
from foveate.reduce.keep_map import KeepMap

SIZE = (112, 112)
SMALL = StreamSettings(
    vision_seconds=2,
    text_tokens=6,
    sink_tokens=16,
    reply_tokens=4,
    question_tokens=40,
    answer_tokens=6,
    page_tokens=4,
    visual_budget="4",
)


def one_layer(tmp_path, family):
    """Keys and values of a first layer depend on their token alone, so that what has left leaves no trace."""
    model = load(tiny.build_tiny(family, tmp_path / family), device="cpu")
    del model.language_model.layers[1:]
    model.text_config.num_hidden_layers = 1
    return model


def opened(model, settings=SMALL, size=SIZE):
    return StreamingSession(model, settings, width=size[0], height=size[1], prompt="what")


def frame(second):
    return tiny.picture(*SIZE, seed=second)


def prepared(model, image):
    grid = model.visual_grid(*SIZE, images_in_prompt=2)
    tensors = model.process_pixels(image.convert("RGB"), images_in_prompt=2)
    return PreparedMedia(tensors=tensors, grid=grid, width=SIZE[0], height=SIZE[1])


def unshortened(ids, image_token, kept, grid):
    """Every run of kept placeholders as long as before."""
    whole, index = [], 0
    while index < len(ids):
        if ids[index] == image_token:
            whole += [image_token] * grid.tokens
            index += kept
        else:
            whole.append(ids[index])
            index += 1
    return whole


@pytest.mark.parametrize("method", ["average_pool", "divprune"])
@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "qwen3_vl"])
def test_a_stream_of_cut_frames_equals_reduced_forwards(tmp_path, family, method):
    model = one_layer(tmp_path, family)
    session = opened(model, replace(SMALL, reducer=method))
    reducer = get_reducer(method, positions="repack")
    for second in range(5):
        report = session.push_frame(frame(second), second)
        assert report.tokens <= session.bound.tokens
        state = session._state.fork()
        carried = session._carried(second) or [Piece(kind=Kind.TEXT, tokens=[5], second=second)]
        logits = state.extend(carried)
        ids = state.window.tokens()
        state.close()
        media = [prepared(model, frame(shown)) for shown in range(max(0, second - 1), second + 1)]
        grid = media[0].grid
        kept = reducer.plan(grid, "4").kept
        assert ids.count(model.image_token_id) == kept * len(media) < grid.tokens * len(media)
        whole = unshortened(ids, model.image_token_id, kept, grid)
        prompt = Prompt(token_ids=whole, media=media, spans=[], text="")
        expected = reduced_logits(model, reduce_prompt(model, prompt, None, reducer, "4"))[-1]
        assert torch.allclose(logits, expected, atol=1e-4), (second, (logits - expected).abs().max())
    assert report.evicted > 0
    session.close()


def test_a_smaller_budget_is_a_smaller_bound():
    model = load(device="cpu", dtype="float32")
    bounds = {}
    for budget in ("full", "25%", "9"):
        session = opened(model, replace(SMALL, visual_budget=budget), (168, 168))
        bounds[budget] = session.bound.turn_tokens
        session.close()
    assert bounds["full"] - bounds["25%"] == 144 - 36 and bounds["full"] - bounds["9"] == 144 - 9


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"reducer": "evs"}, StreamError, "acts on video"),
        ({"reducer": "fastv"}, StreamError, "cut the frames"),
        ({"reducer": "downsample"}, StreamError, "acts on input"),
        ({"reducer": "averagepool"}, ReductionError, "average_pool"),
        ({"visual_budget": "0"}, ReductionError, "keeps no token"),
        ({"visual_budget": "1000"}, ReductionError, "1000"),
    ],
)
def test_budgets_and_methods_that_do_not_fit_are_refused(changes, error, said):
    with pytest.raises(error) as caught:
        opened(load(device="cpu"), replace(SMALL, **changes), (168, 168))
    assert said in str(caught.value)


def test_placeholders_leave_in_the_order_of_the_frames():
    grid = VisualGrid(tokens=3, rows=1, cols=3, tiles=((1, 3),), pixel_width=3, pixel_height=1)
    keeps = [
        KeepMap(grid=grid, kept=torch.tensor(kept), asked="", reason="", method="") for kept in ([0, 2], [1])
    ]
    assert shortened([7, 9, 9, 9, 8, 9, 9, 9, 6], 9, keeps) == [7, 9, 9, 8, 9, 6]
    assert shortened([7, 8], 9, []) == [7, 8]
    with pytest.raises(AssertionError):
        shortened([7, 9, 9], 9, keeps)


def test_a_checkpoint_keeps_what_it_was_trained_for(tmp_path):
    assert StreamDefaults.of(tmp_path) == StreamDefaults()
    mine = StreamDefaults(settings=SMALL, prompt="")
    mine.write(tmp_path)
    assert StreamDefaults.of(tmp_path) == mine
    model = load(tiny.build_tiny("llava", tmp_path / "tiny"), device="cpu")
    StreamDefaults(settings=replace(SMALL, vision_seconds=3), prompt="why").write(tmp_path / "tiny")
    session = StreamingSession(model, width=56, height=56)
    assert session.settings.vision_seconds == 3 and session.prompt == "why"
    session.close()
    for wrong in (
        '{"prompt": ""',
        '{"prompt": "", "vision_second": 1}',
        "{}",
        '{"prompt": "", "sink_tokens": -1}',
    ):
        (tmp_path / "stream_config.json").write_text(wrong)
        with pytest.raises(StreamError):
            StreamDefaults.of(tmp_path)
    assert "prompt" in json.loads((tmp_path / "tiny" / "stream_config.json").read_text())
