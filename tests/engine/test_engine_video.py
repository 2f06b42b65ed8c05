"""Videos in the engine: beside pictures and text, in chunks, from the caches, preempted, guessed ahead, and reduced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from reference_video import moving, plain_video_inputs
from scripted_drafts import SpoiledDraft, knows
from test_engine_parity import COUNT, GREEDY, check
from test_engine_reduction import expected

from foveate.decode.drafts.model import ModelDraft
from foveate.decode.settings import SpeculationSettings
from foveate.decode.streaming import StreamError
from foveate.decode.streaming.turns import Turns
from foveate.engine import Engine, EngineConfig, RequestError, SamplingParameters, VisualBudget
from foveate.errors import ReductionError
from foveate.media import Video, video_of
from foveate.reduce import get_reducer
from foveate.reduce.registry import METHODS
from foveate.reduce.video.rows import VIDEO_METHODS

FAMILIES = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava_onevision", "internvl"]


def clip(seed: int, count: int = 4, size: tuple[int, int] = (112, 56)) -> Video:
    return video_of(moving(*size, count, seed), np.arange(count) / 2)


def ask(family: Any, kinds: str, text: str, videos: list[Video], seed: int) -> tuple[Any, Any, Any]:
    """(prompt, nothing, (plain tokens, their log-probabilities)) of media in this order: "v" and "i"."""
    images = [tiny.picture(90, 56, 100 + seed + index) for index in range(kinds.count("i"))]
    parts = [{"type": "video" if kind == "v" else "image"} for kind in kinds]
    content = [*parts, {"type": "text", "text": text}]
    prompt = family.model.prepare([{"role": "user", "content": content}], images=images, videos=videos)
    inputs = plain_video_inputs(
        family.name,
        family.folder,
        prompt.token_ids,
        [video.frames for video in videos],
        images=images,
        order=kinds,
    )
    with torch.no_grad():
        output = family._plain.generate(
            **inputs, max_new_tokens=COUNT, do_sample=False, return_dict_in_generate=True, output_logits=True
        )
    ids = output.sequences[0, len(prompt.token_ids) :].tolist()
    rows = torch.cat(output.logits).double().log_softmax(dim=-1)
    return prompt, None, (ids, rows[torch.arange(len(ids)), ids])


def requests(family: Any) -> list[tuple[Any, Any, Any]]:
    """A video alone, two around a picture, the first again with another question, text and a picture."""
    if not hasattr(family, "asked_of_videos"):
        first = clip(1)
        prompt, images = family.ask("describe the image", [tiny.picture(90, 56, 7)])
        family.asked_of_videos = [
            ask(family, "v", "what moves", [first], 0),
            ask(family, "viv", "which of them is red", [clip(2), clip(3)], 1),
            ask(family, "v", "how many red squares are there", [first], 2),
            (prompt, images, family.plain(prompt, images, COUNT)),
        ]
    return family.asked_of_videos


def engine_of(family: Any, draft: Any = None, **fields: Any) -> Engine:
    settings = {"kv_blocks": 800, "block_size": 8, "max_step_tokens": 4096, "poison": True}
    speculation = SpeculationSettings(adaptive=False) if draft else None
    config = EngineConfig(
        **{"encoder_cache_bytes": 2**22, "speculation": speculation, **settings, **fields}  # type: ignore[arg-type]
    )
    return Engine(family.model, config, draft=draft)


@pytest.mark.parametrize("name", FAMILIES)
def test_beside_pictures_and_text(name: str, family_of: Callable) -> None:
    family = family_of(name)
    asked = requests(family)
    assert max(len(plain[0]) for _, _, plain in asked) >= 8, (
        "every answer ended at once: nothing was compared"
    )
    assert asked[0][2][0] != asked[1][2][0]
    check(engine_of(family), asked)
    # Chunks that end inside videos, and a pool that holds the longest request and little more.
    check(engine_of(family, max_step_tokens=7, max_sequences=4), asked)
    longest = max(len(prompt.token_ids) for prompt, _, _ in asked) + COUNT
    tight = engine_of(family, block_size=2, kv_blocks=-(-longest // 2), prefix_caching=False)
    check(tight, [*asked, asked[0], asked[2]], interrupt=True)


@pytest.mark.parametrize("name", FAMILIES)
def test_caches_know_a_video_by_content_and_times(name: str, family_of: Callable) -> None:
    family = family_of(name)
    asked = requests(family)
    engine = engine_of(family, block_size=4)
    check(engine, asked)
    encoded, hits = engine.statistics().encoded_images, engine.prefixes.hit_tokens
    assert encoded == 5, "the video that is asked about twice is encoded once: three videos and two pictures"
    check(engine, asked)
    assert engine.statistics().encoded_images == encoded and engine.prefixes.hit_tokens > hits
    engine.store.pool.forget_idle()
    check(engine, asked[:2])
    assert engine.statistics().encoded_images == encoded, "features were there and not used"
    # The same frames at other times are another video: what follows from them must not be shared.
    slower = video_of(moving(112, 56, 4, 1), [0.0, 1.0, 4.0, 6.0])
    content = [{"type": "video"}, {"type": "text", "text": "what moves"}]
    prompt = family.model.prepare([{"role": "user", "content": content}], videos=[slower])
    alone = [token.id for token in family.model.generate(prompt, max_new_tokens=COUNT)]
    assert engine.generate(prompt, GREEDY)[0].token_ids == alone
    assert engine.statistics().encoded_images == encoded + 1


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "llava_onevision"])
def test_guessing_ahead_behind_a_video(name: str, family_of: Callable) -> None:
    """M-RoPE goes on behind a video as it does behind a picture, whatever was guessed and by whom."""
    family = family_of(name)
    asked = requests(family)
    answers = {tuple(prompt.token_ids): plain[0] for prompt, _, plain in asked}
    size = int(family.model.text_config.vocab_size)
    engine = engine_of(family, SpoiledDraft(knows(answers), size, tree=True))
    check(engine, asked)
    assert 0 < engine.statistics().accepted_tokens < engine.statistics().draft_tokens
    # A model that drafts for itself reads the video as the target does: every guess is right.
    twin = engine_of(family, ModelDraft(family.model, family.model, depth=3))
    check(twin, asked)
    assert twin.statistics().accepted_tokens == twin.statistics().draft_tokens > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_every_method_cuts_a_video_as_the_reference_does_or_says_why_not(
    name: str, family_of: Callable
) -> None:
    family = family_of(name)
    model, served, refused = family.model, [], {}
    # Qwen3-VL's frames share one budget of pixels: of many frames, each would be a token or two.
    count = 4 if name == "qwen3_vl" else 8
    video, image = clip(5, count=count, size=(112, 112)), tiny.picture(90, 56, 3)
    text = {"type": "text", "text": "what is new"}
    content = [{"type": "video"}, {"type": "image"}, text]
    mixed = model.prepare([{"role": "user", "content": content}], images=[image], videos=[video])
    alone = model.prepare([{"role": "user", "content": [content[0], text]}], videos=[video])
    engine = engine_of(family, block_size=4)
    for info in (*METHODS, *VIDEO_METHODS):
        for settings in ({}, {"tiles": "uniform"}):
            try:
                method = get_reducer(info.name, **settings)
                # Some methods over frames have no meaning for a picture, and say so.
                prompt = alone if method.stage == "video" else mixed
                asked = VisualBudget(budget="50%", reducer=method)
                added = engine.add_request(prompt, SamplingParameters(max_tokens=6), visual=asked)
            except (ReductionError, RequestError) as error:
                refused[info.name] = str(error)
                continue
            tokens, maps = expected(model, prompt, "50%", method)
            answer = engine.run_to_completion()[added][0]
            assert answer.token_ids == tokens, info.name
            for got, want in zip(engine.keep_maps(added), maps, strict=True):
                assert got is not None and torch.equal(got.kept, want.kept), info.name
            assert maps[0].count <= maps[0].total // 2 and maps[0].grid.frames == prompt.media[0].grid.frames
            served.append(info.name)
            refused.pop(info.name, None)
            break
    assert {"random", "fastervlm", "average_pool"} <= set(served), refused
    assert all("\n" not in told and len(told) > 60 for told in refused.values())
    # Where the placeholders of a video stand together, methods over frames are served too.
    together = name in ("qwen2_vl", "qwen2_5_vl", "llava_onevision")
    assert set(served).issuperset({info.name for info in VIDEO_METHODS}) == together
    assert ("downsample" in served) == name.startswith("qwen")


def test_a_budget_below_a_token_a_frame_is_refused_where_frames_are_made_smaller(family_of: Callable) -> None:
    model = family_of("qwen2_vl").model
    prompt = model.prepare(
        [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "?"}]}],
        videos=[clip(5, count=8)],
    )
    with pytest.raises(ReductionError, match="cannot cut 4 frames so far"):
        engine_of(family_of("qwen2_vl")).add_request(
            prompt, GREEDY, visual=VisualBudget(budget=3, reducer="downsample")
        )


def test_the_words_of_a_stream_may_not_spell_the_place_of_a_video(family_of: Callable) -> None:
    turns = Turns(family_of("qwen2_vl").model, None)
    assert turns.turn("what moves")
    with pytest.raises(StreamError, match="spells the place"):
        turns.turn("what <|video_pad|> moves")
