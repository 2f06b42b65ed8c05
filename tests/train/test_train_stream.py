"""Training on streams: chunks are laid out as a session lays its tokens out, runs resume exactly, exports load."""

from __future__ import annotations

import dataclasses
import json
import random

import pytest
import torch
from PIL import Image

from foveate.cli.main import run
from foveate.decode.streaming import StreamDefaults, StreamingSession
from foveate.errors import FoveateError
from foveate.models import load
from foveate.train.stream.chunks import CHANGED, SAME, SILENT, UNTRAINED, Chunk, Disturbance
from foveate.train.stream.frames import SIZE
from foveate.train.stream.loop import StreamTrainer, StreamTraining
from foveate.world.moving import SILENCE, instruction
from foveate.world.render import render

TINY = StreamTraining(
    streams=2,
    seconds=16,
    chunk_seconds=8,
    overlap_seconds=4,
    room=224,
    batch_size=1,
    short_steps=2,
    short_seconds=4,
    short_room=180,
    short_batch=2,
    steps=4,
    warmup=2,
    validation_streams=1,
    log_every=1,
    evaluate_every=4,
    save_every=2,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A whole short run."""
    trainer = StreamTrainer(TINY, tmp_path_factory.mktemp("run"))
    trainer.see()
    trainer.run()
    return trainer


UNDISTURBED = Disturbance(silent=0.0, made_up=0.0)


class Fixed(random.Random):
    """No comment is disturbed, and nothing asked: both are decided by shares below this one."""

    def random(self):
        return 0.45


def speaking(session, tokens):
    """Puts words into a session's mouth: after each step the next of `tokens` is the likeliest."""
    plain = session._state.extend

    def extend(pieces):
        logits = plain(pieces)
        named = torch.zeros_like(logits)
        named[tokens.pop(0)] = 1.0
        return named

    session._state.extend = extend
    return lambda: setattr(session._state, "extend", plain)


def test_a_chunk_is_what_a_session_keeps_that_says_the_right_things(trained):
    """To the token; and the frames are those that the session's model reads."""
    stream, model = trained.frames.open("train", 0), load(dtype="float32")
    colour = stream.scene.palette[0]
    chunk = trained.maker.make(stream, colour, 0, 6, Fixed(1), UNDISTURBED)
    session = StreamingSession(
        model, TINY.stream, width=SIZE, height=SIZE, prompt="", system=instruction(colour)
    )
    frames = [Image.fromarray(render(stream.scene.at(second), SIZE).rgb) for second in range(6)]
    for second, frame in enumerate(frames):
        comment = stream.scene.comment(colour, second)
        said = model.tokenizer(comment, add_special_tokens=False)["input_ids"]
        restore = speaking(session, [*said, model.tokenizer.eos_token_id])
        assert session.push_frame(frame, second).reply.text == comment
        restore()
    assert session.token_ids == chunk.token_ids
    (seen,) = session._reader.seen([session._reader.prepared(frames[3])])
    kept = torch.from_numpy(chunk.frames[3].astype("float32"))
    scale = seen.features.features.abs().mean()
    assert (seen.features.features - kept).abs().mean() < 0.02 * scale, (
        "only the tower's bfloat16 is between them"
    )
    session.close()


def test_a_later_chunk_opens_with_sinks_and_the_newest_comments(trained):
    stream, maker = trained.frames.open("train", 1), trained.maker
    colour, tokenizer = stream.scene.palette[1], trained.model.tokenizer
    chunk = maker.make(stream, colour, 8, 4, Fixed(2), UNDISTURBED)
    text = maker._turns(colour).opening
    for second in range(8):
        text = [
            *text,
            *tokenizer(stream.scene.comment(colour, second), add_special_tokens=False)["input_ids"],
        ]
    sinks = TINY.stream.sink_tokens
    assert chunk.token_ids[:sinks] == text[:sinks]
    recent = chunk.token_ids[sinks : chunk.token_ids.index(tokenizer.eos_token_id, sinks)]
    assert recent == text[-len(recent) :] and 0 < len(recent) <= TINY.stream.text_tokens


def test_only_what_is_said_is_trained(trained):
    stream, tokenizer = trained.frames.open("train", 0), trained.model.tokenizer
    colour = stream.scene.palette[0]
    chunk = trained.maker.make(stream, colour, 0, 8, Fixed(3), UNDISTURBED)
    said = [tokenizer.decode([chunk.targets[place] for place in places][:-1]) for _, places in chunk.replies]
    assert said == [stream.scene.comment(colour, second) for second in range(8)]
    assert [kind for kind, _ in chunk.replies] == [
        CHANGED if stream.scene.changes(colour, second) else SILENT if text == SILENCE else SAME
        for second, text in enumerate(said)
    ]
    places = {place for _, places in chunk.replies for place in places}
    assert all((target == UNTRAINED) == (place not in places) for place, target in enumerate(chunk.targets))
    for place in sorted(places):
        if place + 1 < len(chunk.token_ids) and chunk.targets[place] != tokenizer.eos_token_id:
            assert chunk.token_ids[place + 1] == chunk.targets[place], (
                "a target is the token behind its place"
            )


def test_a_comment_that_is_read_wrongly_is_still_asked_for_rightly():
    """Of another length, only its first token can be: what follows would answer to words that nobody said."""
    chunk = Chunk()
    chunk.read([1, 2])
    chunk.say(SAME, [5, 6, 7], [5, 6, 8], end=9)
    assert (chunk.token_ids, chunk.targets) == ([1, 2, 5, 6, 8], [UNTRAINED, 5, 6, 7, 9])
    chunk.read([3])
    chunk.say(SAME, [5, 6, 7], [4], end=9)
    assert (chunk.token_ids[-2:], chunk.targets[-2:]) == ([3, 4], [5, UNTRAINED])
    assert [kind for kind, _ in chunk.replies] == [SAME]


def test_a_stopped_run_goes_on_to_the_same_numbers(trained, tmp_path):
    half = StreamTrainer(dataclasses.replace(TINY), tmp_path)
    half.see()
    for step in (0, 1):
        half._train_step(half._batch(step))
        half.step += 1
    half.save()
    again = StreamTrainer(TINY, tmp_path)
    assert again.step == 2
    again.run()
    for name, value in trained.trained.items():
        assert torch.equal(value, again.trained[name]), name
    assert trained._batch(1).token_ids.shape == (2, 180) and trained._batch(2).token_ids.shape == (1, 224)
    rows = [json.loads(line) for line in (trained.folder / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    assert set(rows[-1]["validation"]) <= {SILENT, SAME, CHANGED, "memory", "asked"}


def test_what_comes_out_opens_both_ways_and_knows_its_settings(trained):
    base = dict(load(dtype="float32").hf_model.named_parameters())
    whole, over = (load(trained.folder / name, dtype="float32") for name in ("model", "difference"))
    weights, others = (dict(model.hf_model.named_parameters()) for model in (whole, over))
    assert weights.keys() == others.keys() == base.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    moved = {name for name in base if not torch.equal(base[name], weights[name])}
    assert moved and all(".language_model.layers." in name or name.endswith(".norm.weight") for name in moved)
    for model in (whole, over):
        assert StreamDefaults.of(model.folder) == StreamDefaults(settings=TINY.stream, prompt="")


def test_other_runs_and_other_frames_are_refused(trained):
    for settings, said in (
        (dataclasses.replace(TINY, seed=1), "of another run"),
        (dataclasses.replace(TINY, steps=3), "past the end"),
        (dataclasses.replace(TINY, seconds=20), "seen otherwise"),
    ):
        with pytest.raises(FoveateError, match=said):
            StreamTrainer(settings, trained.folder)
    with pytest.raises(FoveateError, match="difference to another model"):
        StreamTrainer(TINY, trained.folder, start_from=str(trained.folder / "difference"))


def test_the_command_trains_in_lines_of_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("foveate.train.stream.loop.StreamTraining", lambda: TINY)
    assert run(["train", "stream", "--out", str(tmp_path), "--steps", "1", "--threads", "1", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["step"] == 1 and lines[-1]["model"] == str(tmp_path / "model")
    assert (tmp_path / "difference" / "overlay.json").is_file()
