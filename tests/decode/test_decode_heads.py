"""Draft heads without an engine: rows, unrolled steps, compressors, configurations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.decode.drafts.base import DraftError
from foveate.decode.heads.compress import Compressor, fixed_choice, windows
from foveate.decode.heads.config import MODES, CompressorConfig, HeadConfig, default_taps
from foveate.decode.heads.layer import turned
from foveate.decode.heads.layout import HeadLayout, VisualRun, layout_of
from foveate.decode.heads.model import DraftHead
from foveate.models.records import PreparedMedia, Prompt, VisualGrid

WIDTH = 16
COMPRESSED = (None, "text", "pool:4", "prune:4", "importance:4", "convolution:3", "resampler:3", "vispec:3")
GATED = ("weighted:3", "concat", "select")


def head_of(compress: str | None = None, *, kind: str = "eagle2", seed: int = 0, **changes: Any) -> DraftHead:
    """A small head whose glances, gates and scores are not at their first values."""
    torch.manual_seed(seed)
    fields: dict[str, Any] = {
        "kind": kind,
        "hidden_size": WIDTH,
        "attention_heads": 4,
        "key_value_heads": 2,
        "head_dim": 6,
        "intermediate_size": 20,
        "taps": (0, 1) if kind == "eagle3" else (),
        "visual": "text" if compress == "text" else "compressed" if compress else "full",
        "compressor": CompressorConfig.parse(compress) if compress and compress != "text" else None,
        **changes,
    }
    head = DraftHead(HeadConfig(**fields)).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return head


LAYOUT = HeadLayout(
    length=34,
    prompt=26,
    runs=(VisualRun(start=0, stop=7), VisualRun(start=10, stop=22, grid=(3, 4))),
)


def given_states(head: DraftHead, length: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(length, WIDTH, generator=generator),
        torch.randn(length, head.feature_size, generator=generator),
    )


def plain_layer(head: DraftHead, inputs: torch.Tensor) -> torch.Tensor:
    """The last row's state: attention written out for one sequence, no mask, no cache."""
    layer, config = head.layer, head.config
    mixed = layer.queries_keys_values(layer.attention_norm(inputs)).unflatten(-1, (-1, config.head_dim))
    angles = head.turns(len(inputs), inputs.device)[: len(inputs)]
    heads, groups = config.attention_heads, config.key_value_heads
    placed = turned(mixed[None, :, : heads + groups].transpose(1, 2), angles[None, None])[0]
    rows = []
    for one in range(heads):
        group = one // (heads // groups)
        scores = placed[one, -1] @ placed[heads + group].T / config.head_dim**0.5
        rows.append(scores.softmax(dim=-1) @ mixed[:, heads + groups + group])
    x = inputs[-1] + layer.out(torch.cat(rows))
    gate, up = layer.gate_up(layer.feed_forward_norm(x)).chunk(2)
    return x + layer.down(F.silu(gate) * up)


@pytest.mark.parametrize("kind", ["eagle2", "eagle3"])
@pytest.mark.parametrize("compress", [*COMPRESSED, *GATED])
def test_unrolled_steps_are_drafts_node_by_node(compress: str | None, kind: str) -> None:
    """Each state of each step is that of a draft grown by hand behind the target's states of that place."""
    head = head_of(compress, kind=kind)
    embeds, features = given_states(head, LAYOUT.length + 3)
    other = HeadLayout(length=19, prompt=12, runs=())
    with torch.no_grad():
        results = head(
            torch.stack([embeds, embeds.flip(0)]),
            torch.stack([features, features.flip(0)]),
            [LAYOUT, other],
            steps=4,
        )
        for batch, (layout, e, f) in enumerate(
            [(LAYOUT, embeds, features), (other, embeds.flip(0), features.flip(0))]
        ):
            rows = head.rows(e, f, layout)
            first = layout.prompt if batch == 0 else 4
            for place in range(first, layout.length):
                at = int((rows.places == place).nonzero())
                inputs = rows.inputs[: at + 1]
                state = plain_layer(head, inputs)
                assert torch.allclose(results[0][batch, place], state, atol=1e-5)
                for step in range(1, min(4, layout.length - place)):
                    glance = None if rows.glances is None else rows.glances[at + step]
                    new = head.join(e[place + step], state, glance)
                    inputs = torch.cat([inputs, new[None]])
                    state = plain_layer(head, inputs)
                    assert torch.allclose(results[step][batch, place + step], state, atol=1e-5)
            assert not results[0][batch, layout.length :].any()


def test_modes_are_all_tested() -> None:
    tested = {text.partition(":")[0] for text in (*COMPRESSED, *GATED) if text and text != "text"}
    assert tested == set(MODES)


@given(st.integers(1, 60), st.integers(1, 24), st.data())
@settings(max_examples=60, deadline=None)
def test_windows_cover_every_token_in_order(count: int, ratio: int, data: st.DataObject) -> None:
    """Each token in some window, each window of `ratio`, none empty; whole windows do not overlap."""
    sides = [(rows, count // rows) for rows in range(1, count + 1) if count % rows == 0]
    grid = data.draw(st.sampled_from([None, *sides]))
    found = windows(count, grid, ratio)
    assert found.shape[1] == ratio and set(found.flatten().tolist()) == set(range(count))
    whole = [row for row in found.tolist() if len(set(row)) == ratio]
    assert len({place for row in whole for place in row}) == ratio * len(whole)
    if grid is None:
        assert found.shape[0] == -(-count // ratio)


def test_windows_are_as_square_as_the_ratio_allows() -> None:
    assert windows(16, (4, 4), 4).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert windows(144, (12, 12), 20).shape == (9, 20)  # 4 x 5, cut at the right edge
    assert windows(5, None, 2).tolist() == [[0, 1], [2, 3], [4, 4]]


COUNTS = {
    "pool:4": 6,
    "prune:4": 6,
    "importance:4": 6,
    "convolution:3": 8,
    "resampler:3": 3,
    "vispec:3": 2,
    "weighted:3": 8,
    "concat": 2 + 2 + 8 + 2,
}


@pytest.mark.parametrize("text", COUNTS)
def test_a_picture_has_as_many_rows_as_its_compressor_says(text: str) -> None:
    """Of 4 x 6 tokens; alike each time once trained, and of the same tokens in an even picture."""
    torch.manual_seed(0)
    compressor = Compressor(CompressorConfig.parse(text), width=WIDTH, heads=4, eps=1e-6).eval()
    tokens, question = torch.randn(24, WIDTH), torch.randn(WIDTH)
    kept, glance = compressor(tokens, (4, 6), question)
    assert kept.shape == (COUNTS[text], WIDTH)
    assert (glance is not None) == text.startswith("vispec")
    assert torch.equal(kept, compressor(tokens, (4, 6), question)[0])
    if text.partition(":")[0] in ("pool", "prune", "importance", "convolution", "weighted"):
        same = tokens[:1].expand(24, -1)
        assert torch.allclose(compressor(same, (4, 6), question)[0], same[: len(kept)], atol=1e-6)
    if text.startswith("prune"):
        assert torch.equal(kept, tokens[fixed_choice(24, 6)])


def test_importance_keeps_the_highest_scores_in_their_order() -> None:
    compressor = Compressor(CompressorConfig.parse("importance:4"), width=WIDTH, heads=4, eps=1e-6)
    tokens = torch.randn(24, WIDTH)
    with torch.no_grad():
        compressor.pruner.score.weight.normal_()  # type: ignore[union-attr]
    scores = tokens @ compressor.pruner.score.weight[0]  # type: ignore[union-attr]
    places = sorted(scores.argsort(descending=True)[:6].tolist())
    kept, _ = compressor(tokens, None, torch.zeros(WIDTH))
    assert torch.allclose(kept, tokens[places] * (2 * scores[places].sigmoid())[:, None], atol=1e-6)


def test_the_gate_of_select_reads_the_question() -> None:
    """Whichever operator a question's gate prefers is taken; in training all get their turn, with a gradient."""
    torch.manual_seed(0)
    compressor = Compressor(CompressorConfig(mode="select"), width=WIDTH, heads=4, eps=1e-6).eval()
    assert compressor.gate is not None
    tokens, sizes = torch.randn(40, WIDTH), [2, 2, 14, 2, 0]
    questions = torch.randn(5, WIDTH)
    with torch.no_grad():
        compressor.gate.choose.weight.copy_(compressor.gate.norm(questions))
    assert len({sizes[int(compressor.gate(one).argmax())] for one in questions}) > 1
    for one in questions:
        kept, _ = compressor(tokens, None, one)
        assert len(kept) == sizes[int(compressor.gate(one).argmax())]
    compressor.train()
    with torch.no_grad():
        compressor.gate.choose.weight.zero_()
    drawn = set()
    for _ in range(60):
        kept, _ = compressor(tokens, None, questions[0])
        drawn.add(len(kept))
        if len(kept):
            compressor.gate.choose.bias.grad = None
            kept.square().sum().backward()
            assert compressor.gate.choose.bias.grad is not None and compressor.gate.choose.bias.grad.any()
    assert drawn == {0, 2, 14}


def test_the_gate_of_a_head_reads_the_text_behind_the_picture_and_no_more() -> None:
    """Neither what is answered nor what stood before the picture changes what the draft sees of it."""
    head = head_of("weighted:3")
    embeds, features = given_states(head, LAYOUT.length)
    base = head.rows(embeds, features, LAYOUT)
    second = (base.places == -1).nonzero()[-1]
    for first, last, changes in ((26, 34, False), (7, 9, True), (23, 26, True)):
        other = features.clone()
        other[first:last] += 1
        moved = not torch.allclose(head.rows(embeds, other, LAYOUT).inputs[second], base.inputs[second])
        assert moved == (changes and first > 20)


def prompt_of(tokens: list[int], spans: list[tuple[int, int]]) -> Prompt:
    return Prompt(token_ids=tokens, media=[], spans=spans, text="")


def test_runs_of_a_prompt_are_cut_between_pictures() -> None:
    tokens = [9, 9, 9, 9, 1, 2, 9, 9, 3, 9, 4]
    found = layout_of(prompt_of(tokens, [(0, 2), (2, 4), (6, 10)]), {9}, length=13)
    assert [(run.start, run.stop) for run in found.runs] == [(0, 2), (2, 4), (6, 8), (9, 10)]
    assert (found.length, found.prompt) == (13, 11)
    later = found.behind(7)
    assert [(run.start, run.stop) for run in later.runs] == [(0, 1), (2, 3)]
    assert (later.length, later.prompt) == (6, 4)


@pytest.mark.parametrize("text", ["pool:4", "prune:20", "weighted:5", "select:3", "vispec:2", "resampler:7"])
def test_a_compressor_in_one_word(text: str) -> None:
    assert CompressorConfig.parse(text).text == text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "eagle4"}, "Did you mean 'eagle"),
        ({"visual": "none"}, "cannot read pictures 'none'"),
        ({"head_dim": 5}, "must be even"),
        ({"key_value_heads": 3}, "equally many"),
        ({"vocabulary": 0}, "1 or more"),
        ({"taps": (1,)}, "eagle2 its last states alone"),
        ({"kind": "eagle3"}, "reads the layers none"),
        ({"visual": "compressed"}, "no compressor"),
        ({"compressor": CompressorConfig(mode="pool")}, "the compressor pool"),
    ],
)
def test_settings_that_contradict_each_other(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(DraftError, match=said):
        head_of(**fields) if "kind" not in fields else HeadConfig(
            **{**head_of().config.to_json(), "taps": (), **fields}
        )


@pytest.mark.parametrize("text", ["pol:4", "pool:four", "pool:0", "vispec:1", "resampler:1000", "pool:"])
def test_compressors_that_there_are_not(text: str) -> None:
    with pytest.raises(DraftError):
        CompressorConfig.parse(text)


def test_taps_are_low_middle_and_high_and_never_the_last() -> None:
    assert default_taps(32) == (2, 16, 29)
    for layers in range(1, 80):
        found = default_taps(layers)
        assert found[0] >= 0 and found[-1] < max(layers - 1, 1)
        assert found == tuple(sorted(set(found))) and len(found) == {1: 1, 2: 1, 3: 2, 4: 2}.get(layers, 3)


def test_a_configuration_comes_back_from_json() -> None:
    for head in (head_of(), head_of("select"), head_of(kind="eagle3", vocabulary=7, input_norm=False)):
        assert HeadConfig.from_json(head.config.to_json()) == head.config


def test_a_glance_begins_as_if_it_were_not_there() -> None:
    """ViSpec's joint of state and glance starts as the identity on the state."""
    config = head_of("vispec:3").config
    head = DraftHead(config).eval()
    embeds, features = given_states(head, 5)
    assert torch.allclose(head.join(embeds, features, torch.randn(5, WIDTH)), head.join(embeds, features))


def test_a_reduced_vocabulary_names_the_targets_tokens() -> None:
    head = head_of(vocabulary=3)
    head.set_vocabulary([1, 4, 6])
    project = torch.nn.Linear(WIDTH, 9)
    states = torch.randn(2, WIDTH)
    assert torch.equal(head.logits(states, project), project(states)[:, [1, 4, 6]])


def picture_of(rows: int, cols: int, *, digest: str = "", **fields: Any) -> PreparedMedia:
    grid = VisualGrid(
        **{"tokens": rows * cols, "rows": rows, "cols": cols, "tiles": ((rows, cols),), **fields},
        pixel_width=1,
        pixel_height=1,
    )
    return PreparedMedia(tensors={}, grid=grid, width=1, height=1, digest=digest)


def test_grids_are_those_of_whole_rasters() -> None:
    """Not of a picture that lost tokens, has separators, or is cut through by what the head never saw."""
    prompt = Prompt(
        token_ids=[*[9] * 6, 1, *[9] * 5, 2, *[9] * 8],
        media=[picture_of(2, 3), picture_of(2, 3), picture_of(2, 3, tokens=8, extra=2)],
        spans=[(0, 6), (7, 12), (13, 21)],
        text="",
    )
    found = layout_of(prompt, {9}, length=21)
    assert [run.grid for run in found.runs] == [(2, 3), None, None]
    assert found.behind(0).runs == found.runs
    assert found.behind(1).runs[0] == VisualRun(start=0, stop=5)
    film = Prompt(token_ids=[9] * 12, media=[picture_of(2, 3, tokens=12, frames=2)], spans=[(0, 12)], text="")
    assert layout_of(film, {9}, length=12).runs[0].grid == (4, 3)


@pytest.mark.parametrize("compress", [None, *COMPRESSED[2:], *GATED])
def test_a_head_that_has_drafted_can_still_be_trained(compress: str | None) -> None:
    """What decoding remembers between calls is of use to training: nothing of it was made for inference alone."""
    fixed_choice.cache_clear()
    windows.cache_clear()
    head = head_of(compress)
    embeds, features = given_states(head, LAYOUT.length)
    with torch.inference_mode():
        head(embeds[None].clone(), features[None].clone(), [LAYOUT])
    [states] = head(embeds[None], features[None], [LAYOUT])
    states.square().sum().backward()
    assert head.fuse.weight.grad is not None and head.fuse.weight.grad.any()
