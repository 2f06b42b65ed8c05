"""A session against plain forwards: equal while nothing has left, re-rotated keys equal fresh ones afterwards."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import tiny
import torch

from foveate.decode.streaming import StreamError, StreamingSession, StreamSettings
from foveate.decode.streaming.attention import UnrotatedPages
from foveate.decode.streaming.rotation import Rotary, turned
from foveate.decode.streaming.state import Piece, StreamState, token_bytes
from foveate.decode.streaming.window import Kind
from foveate.errors import MediaError
from foveate.media import open_image
from foveate.models import load
from foveate.models.attention import AttentionState, KeyValueCache
from foveate.models.records import PreparedMedia, Prompt

SIZE = (56, 56)
FAMILIES = ("llava", "llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "smolvlm", "internvl", "gemma3")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    made = {}

    def build(family):
        if family not in made:
            made[family] = load(
                tiny.build_tiny(family, tmp_path_factory.mktemp("tiny") / family), device="cpu"
            )
        return made[family]

    return build


@pytest.fixture(scope="module")
def nano():
    return load(device="cpu", dtype="float32")


def opened(model, size=SIZE, **changes):
    settings = {
        "vision_seconds": 2,
        "text_tokens": 6,
        "sink_tokens": 16,
        "reply_tokens": 4,
        "question_tokens": 40,
        "answer_tokens": 6,
        "page_tokens": 4,
        **changes,
    }
    return StreamingSession(model, StreamSettings(**settings), width=size[0], height=size[1], prompt="what")


def frame(second, size=SIZE):
    return tiny.picture(*size, seed=second)


def media_of(model, images):
    """Frames as the session prepares them."""
    items = []
    for source in images:
        image = open_image(source)
        grid = model.visual_grid(image.width, image.height, images_in_prompt=2)
        tensors = model.process_pixels(image.pil(), images_in_prompt=2)
        items.append(PreparedMedia(tensors=tensors, grid=grid, width=image.width, height=image.height))
    return items


def fresh_logits(model, token_ids, images):
    """[T, V]: one forward over these tokens from nothing."""
    return model.logits(Prompt(token_ids=token_ids, media=media_of(model, images), spans=[], text=""))


def next_logits(session):
    """What the stream says after all that is kept: asked of a fork, so that nothing changes."""
    state = session._state.fork()
    pieces = session._carried(session.second) or [Piece(kind=Kind.TEXT, tokens=[5], second=session.second)]
    logits = state.extend(pieces)
    ids = state.window.tokens()
    state.close()
    return ids, logits


# -- while nothing has left -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_while_nothing_has_left_a_session_equals_plain_forwards(built, family):
    model = built(family)
    session = opened(model, vision_seconds=3, text_tokens=40)
    images = []
    for second in range(3):
        images.append(frame(second))
        report = session.push_frame(images[-1], second)
        assert report.evicted == 0 and report.second == second
        ids, logits = next_logits(session)
        expected = fresh_logits(model, ids, images)
        assert torch.allclose(logits, expected[-1], atol=1e-4), (logits - expected[-1]).abs().max()
        # The reply itself is what those forwards choose.
        said = list(report.reply.token_ids)
        kept = session.token_ids
        if said:
            at = len(kept) - len(said)
            assert kept[at:] == said
            choices = expected[at - 1 : at - 1 + len(said)].argmax(-1).tolist()
            assert choices == said
    session.close()


def test_fovea_nano_says_what_generate_says(nano):
    session = opened(nano, (168, 168), sink_tokens=40, reply_tokens=8)
    image = frame(3, (168, 168))
    report = session.push_frame(image, 0.0)
    ids = session.token_ids
    prompt = Prompt(
        token_ids=ids[: len(ids) - len(report.reply.token_ids)],
        media=media_of(nano, [image]),
        spans=[],
        text="",
    )
    plain = [token.id for token in nano.generate(prompt, max_new_tokens=8)]
    said = list(report.reply.token_ids)
    assert said == plain[: len(said)] and said
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what"}]}]
    assert nano.prepare(messages, images=[image]).token_ids == prompt.token_ids, "the template's own tokens"
    session.close()


# -- after something has left ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "qwen3_vl"])
def test_with_one_layer_an_old_stream_equals_a_forward_from_nothing(tmp_path, family):
    """Keys and values of a first layer depend on their token alone: here, what has left leaves no trace."""
    model = load(tiny.build_tiny(family, tmp_path / family), device="cpu")
    del model.language_model.layers[1:]
    model.text_config.num_hidden_layers = 1
    session = opened(model)
    for second in range(7):
        report = session.push_frame(frame(second), second)
        ids, logits = next_logits(session)
        kept = [frame(shown) for shown in range(max(0, second - 1), second + 1)]
        expected = fresh_logits(model, ids, kept)[-1]
        assert torch.allclose(logits, expected, atol=1e-4), (second, (logits - expected).abs().max())
    assert report.evicted > 0 and session._state.window.indices()[-1] > 2 * report.tokens
    session.close()


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "gemma3"])
def test_cached_keys_turned_anew_equal_a_fresh_rotation(built, family):
    """First-layer keys of a stream that has lost vision and text, turned at their contiguous places, are those of a
    forward from nothing over what is left; deeper ones, turned by hand, give the same logits through the plain path."""
    model = built(family)
    session = opened(model)
    for second in range(6):
        session.push_frame(frame(second), second)
    state = session._state
    ids, slots = state.window.tokens(), torch.tensor(state.window.slots())
    assert state.window.indices() != list(range(len(ids)))
    prompt = Prompt(token_ids=ids, media=media_of(model, [frame(4), frame(5)]), spans=[], text="")
    cache = KeyValueCache()
    features = model.encode(prompt.media)
    plain = AttentionState(cache, model.attention_groups(prompt), window_cuts_groups=model.window_cuts_groups)
    keywords = model.language_keywords(prompt, features)
    with torch.inference_mode():
        model.run_language_model(model.merge(prompt, features), model.positions(prompt), plain, **keywords)
        table = Rotary(model).tables(model.positions(prompt))(0)
        keys, values = state.pages.read(0, slots)
        fresh_keys, fresh_values = cache._buffers[0]
        count = len(ids)
        assert torch.allclose(turned(keys, table), fresh_keys[:, :, :count], atol=1e-5)
        assert torch.allclose(values, fresh_values[:, :, :count], atol=1e-5)
        # Deeper layers: the stored keys turned here, the next token rotated by transformers itself.
        old = KeyValueCache()
        for layer in range(state.pages.keys.shape[0]):
            keys, values = state.pages.read(layer, slots)
            old.update(layer, turned(keys, Rotary(model).tables(model.positions(prompt))(layer)), values)
        token, place = torch.tensor([[7]]), int(model.positions(prompt).max()) + 1
        position = torch.tensor(place).expand(*model.positions(prompt).shape[:-1], 1)
        plain = AttentionState(old, window_cuts_groups=model.window_cuts_groups)
        hidden = model.run_language_model(model.hf_model.get_input_embeddings()(token), position, plain)
        expected = model.head(hidden[:, -1:])[0, 0]
        fork = state.fork()
        logits = fork.extend([Piece(kind=Kind.TEXT, tokens=[7], second=5)])
        fork.close()
        assert torch.allclose(logits, expected, atol=1e-4)
    session.close()


def test_rotation_is_the_models_own_and_no_narrower_than_it():
    import transformers.models.llama.modeling_llama as llama

    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 2, 5, 8, generator=generator) for _ in range(2))
    angles = torch.randn(1, 5, 4, generator=generator).repeat(1, 1, 2)
    expected = llama.apply_rotary_pos_emb(query, key, angles.cos(), angles.sin())
    assert torch.equal(turned(query, (angles.cos(), angles.sin())), expected[0])
    part = turned(query, (angles[..., 1:3].repeat(1, 1, 2).cos(), angles[..., 1:3].repeat(1, 1, 2).sin()))
    assert torch.equal(part[..., 4:], query[..., 4:]) and not torch.equal(part[..., :4], query[..., :4])


def test_absolute_positions_are_another_stream_once_something_has_left(built):
    said = {}
    for positions in ("contiguous", "absolute"):
        session = opened(built("llava"), positions=positions)
        said[positions] = []
        for second in range(5):
            session.push_frame(frame(second), second)
            said[positions].append(next_logits(session)[1])
        session.close()
    assert torch.allclose(said["contiguous"][0], said["absolute"][0], atol=1e-5)
    assert not torch.allclose(said["contiguous"][4], said["absolute"][4], atol=1e-2)


# -- questions ------------------------------------------------------------------------------------------------


def fingerprint(session):
    """Every byte of the state that a later step can read."""
    state = session._state
    slots = torch.tensor(state.window.slots())
    digest = hashlib.sha256()
    for layer in range(state.pages.keys.shape[0]):
        for part in state.pages.read(layer, slots):
            digest.update(part.contiguous().numpy().tobytes())
    window = state.window
    told = (window.tokens(), window.slots(), window.indices(), sorted(window.pages()), session.token_ids)
    return digest.hexdigest(), told, window.pool.in_use, session.statistics()["tokens"]


def test_a_question_leaves_the_state_as_it_was_to_the_byte(built):
    model = built("llava")
    plain, asked = opened(model), opened(model)
    for second in range(5):
        one = plain.push_frame(frame(second), second)
        other = asked.push_frame(frame(second), second)
        assert one.reply.token_ids == other.reply.token_ids
        before = fingerprint(asked)
        first = asked.ask("how many")
        assert fingerprint(asked) == before
        assert first.token_ids == asked.ask("how many").token_ids and first.token_ids
    assert fingerprint(plain)[0] == fingerprint(asked)[0]
    plain.close()
    asked.close()


def test_a_question_equals_a_plain_forward_and_may_come_before_the_first_frame(built):
    model = built("llava")
    session = opened(model, vision_seconds=3, text_tokens=40)
    assert session.ask("what is").text is not None
    session.push_frame(frame(0), 0)
    answer = session.ask("what is", max_tokens=4)
    asked = [*session._turns.between, *session._turns.turn("what is")]
    ids = [*session.token_ids, *asked]
    for token in answer.token_ids:
        assert int(fresh_logits(model, ids, [frame(0)])[-1].argmax()) == token
        ids.append(token)
    with pytest.raises(StreamError, match="question_tokens is 40"):
        session.ask("what " * 100)
    with pytest.raises(StreamError, match="answer_tokens is 6"):
        session.ask("what", max_tokens=7)
    session.close()


# -- frames, memory and what is refused -----------------------------------------------------------------------


def test_frames_beyond_the_rate_and_from_the_past_are_dropped_and_counted(built):
    session = opened(built("llava"), frames_per_second=2, vision_seconds=2)
    assert session.push_frame(frame(0), 0.0) is None
    assert session.push_frame(frame(1), 0.2) is None  # the same half of a second
    report = session.push_frame(frame(2), 0.5)
    assert report.second == 0 and report.frames == 2
    assert session.push_frame(frame(3), 0.1) is None  # time ran back
    assert session.push_frame(frame(4), 3.0) is None
    report = session.push_frame(frame(5), 7.1)  # the second before it had one frame only
    assert report.second == 3 and report.frames == 1
    assert session.flush().second == 7 and session.flush() is None
    assert session.statistics()["frames_dropped"] == {"rate": 1, "late": 1}
    assert session.frames.seen == session.frames.used + 2 == 6
    with pytest.raises(StreamError, match="comes at nan seconds"):
        session.push_frame(frame(0), float("nan"))
    with pytest.raises(MediaError):
        session.push_frame(b"no picture", 9.0)
    assert session.statistics()["frames_dropped"]["refused"] == 1
    session.close()


def test_memory_is_taken_once_and_never_grows(built):
    model = built("llava")
    session = opened(model)
    pages = session._state.pages
    assert isinstance(pages, UnrotatedPages)
    assert pages.bytes + session._state.row.bytes == session.bound.bytes
    where, most = pages.keys.data_ptr(), 0
    for second in range(30):
        report = session.push_frame(frame(second), second)
        session.ask("how many")
        most = max(most, report.tokens)
        assert report.tokens <= session.bound.tokens
    assert pages.keys.data_ptr() == where and most > session.bound.tokens // 2
    assert session.statistics()["most_pages"] <= session.bound.pages
    hooks = sum(len(layer.self_attn._forward_pre_hooks) for layer in model.language_model.layers)
    session.close()
    session.close()
    left = sum(len(layer.self_attn._forward_pre_hooks) for layer in model.language_model.layers)
    assert session.kept[1] == 0 and left == hooks - len(model.language_model.layers)


def test_a_stream_that_is_open_changes_no_plain_forward(built):
    model = built("qwen2_vl")
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what"}]}]
    prompt = model.prepare(messages, images=[frame(0)])
    before = model.logits(prompt)
    session = opened(model)
    session.push_frame(frame(1), 0)
    assert torch.equal(model.logits(prompt), before)
    session.close()


def test_what_cannot_be_streamed_is_refused_before_anything_is_taken(built, nano):
    with pytest.raises(StreamError, match="both ways"):
        opened(built("paligemma"))
    with pytest.raises(StreamError, match="three dimensions"):
        opened(built("qwen2_vl"), positions="absolute")
    with pytest.raises(StreamError, match=r"context is 1,024"):
        opened(nano, (168, 168), vision_seconds=60)
    with pytest.raises(StreamError, match=r"0\.0 MiB are left"):
        StreamingSession(nano, StreamSettings(), width=168, height=168, memory_bytes=1000)
    with pytest.raises(StreamError, match="sink_tokens is 1, which would lose"):
        StreamingSession(nano, StreamSettings(sink_tokens=1), width=8, height=8, system="how many")
    session = opened(built("qwen2_vl"))
    with pytest.raises(StreamError, match="visual tokens: the bound was made for"):
        session.push_frame(np.zeros((400, 400, 3), np.uint8), 0)
    session.close()


def test_the_instructions_stay_with_sinks_and_leave_without(built):
    model = built("llava")
    for sinks in (0, 24):
        settings = StreamSettings(
            vision_seconds=1, text_tokens=24, sink_tokens=sinks, reply_tokens=4, page_tokens=4
        )
        session = StreamingSession(model, settings, width=56, height=56, prompt="what", system="how many red")
        opening = session.token_ids
        assert 0 < len(opening) <= 24
        for second in range(24):
            session.push_frame(frame(second), second)
        assert (session.token_ids[: len(opening)] == opening) is (sinks > 0)
        session.close()


def test_state_takes_bytes_as_told(nano):
    assert token_bytes(nano) == 2 * 6 * 4 * 64 * 4
    session = opened(nano, (168, 168), sink_tokens=40)
    assert isinstance(session._state, StreamState)
    assert session.bound.bytes == (session.bound.pages * 4 + session.bound.positions) * token_bytes(nano)
    session.close()
