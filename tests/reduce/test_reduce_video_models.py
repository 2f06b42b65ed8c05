"""Images of one prompt as the frames of a video, through the reference path, on every family: exact and answered."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from foveate.errors import ReductionError
from foveate.models import load
from foveate.models.generation import SamplingOptions
from foveate.reduce import Budget, generate_reduced, get_reducer, reduce_prompt, reduced_logits
from foveate.reduce.edges import edge_share
from foveate.reduce.video.joining import frame_maps
from foveate.reduce.video.rows import VIDEO_METHODS

FRAMES = 3
SHORT = SamplingOptions(max_new_tokens=4)


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Family -> its tiny model."""
    loaded: dict[str, Any] = {}
    root: Path = tmp_path_factory.mktemp("video")

    def get(family: str) -> Any:
        if family not in loaded:
            loaded[family] = load(tiny.build_tiny(family, root / family), device="cpu")
        return loaded[family]

    return get


def clip(model: Any, size: tuple[int, int], frames: int = FRAMES) -> Any:
    """A prompt of frames of one size, the same but for the last, with words between them."""
    pictures = [tiny.picture(*size, 1 + (index == frames - 1)) for index in range(frames)]
    parts: list[dict[str, Any]] = []
    for index in range(frames):
        parts += [{"type": "image"}, {"type": "text", "text": f"({index})"}]
    content = [*parts, {"type": "text", "text": "what happens"}]
    return model.prepare([{"role": "user", "content": content}], images=pictures)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("name", [info.name for info in VIDEO_METHODS])
def test_method_on_family(name: str, family: str, model_of: Callable[[str], Any]) -> None:
    """One keep-map for all frames, an exact count, all text, and the same answer by one forward and by decoding."""
    model, method = model_of(family), get_reducer(name)
    prompt = clip(model, tiny.FAMILIES[family].sizes[0])
    [grid] = {item.grid for item in prompt.media}
    reduced = reduce_prompt(model, prompt, None, method, "60%")
    [keep] = reduced.keep_maps
    assert (keep.total, keep.grid.frames, keep.stage) == (FRAMES * grid.tokens, FRAMES, "video")
    assert keep.count == FRAMES * grid.tokens * 60 // 100
    counts = [part.count for part in frame_maps(keep, grid)]
    assert [len(item.features) for item in reduced.features] == counts
    visual = [token == model.image_token_id for token in reduced.prompt.token_ids]
    assert sum(visual) == keep.count
    assert [sum(visual[first:last]) for first, last in reduced.prompt.spans] == counts
    text = [token for token in prompt.token_ids if token != model.image_token_id]
    assert [token for token in reduced.prompt.token_ids if token != model.image_token_id] == text
    logits = reduced_logits(model, reduced)
    assert logits.shape[0] == len(reduced.prompt.token_ids)
    assert torch.isfinite(logits).all()
    answer = [token.id for token in generate_reduced(model, reduced, SHORT)]
    assert answer[0] == int(logits[-1].argmax()), "generation and one forward disagree"


@pytest.mark.parametrize("family", ["qwen2_vl", "llava", "gemma3"])
def test_a_frame_may_keep_nothing(family: str, model_of: Callable[[str], Any]) -> None:
    """The second of two equal frames adds nothing to EVS; places of the third stand where they stood."""
    model = model_of(family)
    prompt = clip(model, tiny.FAMILIES[family].sizes[0])
    [grid] = {item.grid for item in prompt.media}
    budget = 2 * grid.tokens - 1
    for positions in ("keep", "repack"):
        reduced = reduce_prompt(model, prompt, None, get_reducer("evs", positions=positions), budget)
        counts = [part.count for part in frame_maps(reduced.keep_maps[0], grid)]
        assert counts == [grid.tokens, 0, grid.tokens - 1]
        assert reduced.prompt.spans[1][0] == reduced.prompt.spans[1][1]
        table = model.positions(prompt)
        if positions == "keep":
            visual = torch.tensor(prompt.token_ids) == model.image_token_id
            where = visual.nonzero()[:, 0][reduced.keep_maps[0].kept]
            stays = torch.tensor(reduced.prompt.token_ids) == model.image_token_id
            assert torch.equal(reduced.positions[..., stays], table[..., where])
            assert reduced.following == int(table.max()) + 1
        else:
            assert reduced.following < int(table.max()) + 1
        answer = [token.id for token in generate_reduced(model, reduced, SHORT)]
        assert answer[0] == int(reduced_logits(model, reduced)[-1].argmax())


def test_full_and_mixed_sizes(model_of: Callable[[str], Any]) -> None:
    model = model_of("qwen2_vl")
    prompt = clip(model, tiny.FAMILIES["qwen2_vl"].sizes[0])
    for budget in ("full", "100%"):
        reduced = reduce_prompt(model, prompt, None, get_reducer("holitom"), budget)
        assert torch.equal(reduced_logits(model, reduced), model.logits(prompt))
    parts = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "what happens"}]
    pictures = [tiny.picture(*size, 1) for size in tiny.FAMILIES["qwen2_vl"].sizes[:2]]
    mixed = model.prepare([{"role": "user", "content": parts}], images=pictures)
    with pytest.raises(ReductionError, match="not the frames of one video"):
        reduce_prompt(model, mixed, None, get_reducer("evs"), "50%")
    assert torch.equal(
        reduced_logits(model, reduce_prompt(model, mixed, None, get_reducer("evs"), "full")),
        model.logits(mixed),
    )
    with pytest.raises(ReductionError, match="cannot cut a single picture"):
        reduce_prompt(model, clip(model, (80, 80), 1), None, get_reducer("evs"), "50%")
    still = reduce_prompt(model, clip(model, (80, 80), 1), None, get_reducer("prunevid"), "50%")
    assert still.keep_maps[0].count == still.keep_maps[0].total // 2


def test_auto_goes_by_the_mean_over_frames(model_of: Callable[[str], Any]) -> None:
    model = model_of("qwen2_vl")
    prompt = clip(model, tiny.FAMILIES["qwen2_vl"].sizes[0], 12)
    [keep] = reduce_prompt(
        model, prompt, None, get_reducer("vidcom2"), "auto", question="Is there a cat?"
    ).keep_maps
    edges = [edge_share(model.picture(item)) for item in prompt.media]
    plan = Budget.parse("auto").plan(keep.total, question="Is there a cat?", edges=sum(edges) / 12)
    assert (keep.count, keep.reason) == (plan.kept, plan.reason)
    assert 16 <= keep.count < keep.total


def test_the_example_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_of: Callable[[str], Any]
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "reduction.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(frames = .*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {"model": model_of("qwen2_vl"), "reduce_prompt": reduce_prompt, "get_reducer": get_reducer}
    for index in range(4):
        tiny.picture(60, 60, index).save(f"frame-{index}.png")
    exec(compile(code, "docs/reduction.md", "exec"), names)
    [keep] = names["reduced"].keep_maps
    assert keep.grid.frames == 4
    assert keep.count == keep.total * 40 // 100
