"""Methods inside the language model on every family: equal to a slow run with full maps, or refused with a reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from language_references import SlowRun

import foveate
from foveate.errors import ReductionError
from foveate.models import load
from foveate.models.generation import SamplingOptions
from foveate.models.registry import FAMILIES
from foveate.reduce import generate_reduced, get_reducer, reduce_further, reduce_prompt, reduced_logits
from foveate.reduce.language.rows import LANGUAGE_METHODS
from foveate.reduce.language.schedule import Cut
from foveate.reduce.layout import layout_of

NAMES = [info.name for info in LANGUAGE_METHODS]
PLAIN = {info.name: info.plain_decoder for info in FAMILIES}
VARIANTS = {"paligemma2": "paligemma", "gemma3_crops": "gemma3"}
CUT = [family for family in tiny.FAMILIES if PLAIN[VARIANTS.get(family, family)]]
STEPS = 5
OPTIONS = SamplingOptions(max_new_tokens=STEPS)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Any]]:
    """Family -> (our model, the same checkpoint under plain transformers with eager attention)."""
    root: Path = tmp_path_factory.mktemp("language")
    loaded: dict[str, tuple[Any, Any]] = {}

    def get(family: str) -> tuple[Any, Any]:
        if family not in loaded:
            folder = tiny.build_tiny(family, root / family)
            auto = getattr(transformers, tiny.FAMILIES[family].auto)
            theirs = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
            loaded[family] = load(folder, device="cpu"), theirs
        return loaded[family]

    return get


def prompt_of(model: Any, family: str) -> Any:
    """Two pictures of different shapes with text before, between and behind."""
    sizes = tiny.FAMILIES[family].sizes
    pictures = [tiny.picture(*sizes[index], index) for index in (2, 1)]
    text = ("of these", "and this", "is there a star in the picture")
    content: list[dict[str, Any]] = [{"type": "text", "text": text[0]}]
    for words in text[1:]:
        content += [{"type": "image"}, {"type": "text", "text": words}]
    return model.prepare([{"role": "user", "content": content}], images=pictures)


def ids_of(tokens: Any) -> list[int]:
    return [token.id for token in tokens]


def slow_run(model: Any, theirs: Any, reduced: Any, name: str) -> SlowRun:
    """The same prompt, cuts and positions, for the reference."""
    prompt, inside = reduced.prompt, reduced.inside
    is_image = [token == model.image_token_id for token in prompt.token_ids]
    images, text, start = [], [], 0
    places = [index for index, visual in enumerate(is_image) if visual]
    for item in reduced.features:
        count, grid = len(item.features), item.grid
        own = places[start : start + count]
        start += count
        whole = count == grid.tokens  # a method before this one has dropped the separators
        content = set(layout_of(grid).content.tolist() if whole else range(count))
        images.append((own, [place for index, place in enumerate(own) if index not in content]))
        text.append([index for index, visual in enumerate(is_image) if not visual and index > own[-1]])
    cuts: dict[int, dict[int, int]] = {}
    for index, image in enumerate(inside.images):
        for cut in image.cuts:
            cuts.setdefault(cut.layer, {})[index] = cut.kept
    levels = list(zip(*(item.deepstack for item in reduced.features), strict=True))
    return SlowRun(
        theirs,
        name,
        embeds=model.merge(prompt, reduced.features),
        positions=reduced.positions,
        cuts=cuts,
        images=images,
        text=text,
        salience=[None if item.salience is None else item.salience.tolist() for item in reduced.features],
        repack=inside.mode == "repack",
        levels=[torch.cat(level) for level in levels],
    )


@pytest.mark.parametrize("family", CUT)
@pytest.mark.parametrize("name", NAMES)
def test_equals_a_slow_run_with_full_maps(name: str, family: str, pair: Callable[[str], Any]) -> None:
    """The same tokens at every cut, the same logits, the same answer through caches of different lengths."""
    model, theirs = pair(family)
    prompt = prompt_of(model, family)
    for settings, budget in (({}, "90%"), ({"counting": "final"}, "30%"), ({"cuts": (1, 2)}, "70%")):
        reduced = reduce_prompt(model, prompt, None, get_reducer(name, **settings), budget)
        ids = [list(range(item.grid.tokens)) for item in prompt.media]
        check_against_slow_run(model, theirs, reduced, name, ids)


def check_against_slow_run(model: Any, theirs: Any, reduced: Any, name: str, ids: list[list[int]]) -> None:
    """ids: for each image, which of its tokens the prompt holds."""
    logits = reduced_logits(model, reduced)
    slow = slow_run(model, theirs, reduced, name)
    expected = slow.prefill()
    for step, chosen in enumerate(slow.kept):
        for index, kept in chosen.items():
            own = slow.images[index][0]
            found = reduced.layers.keep_maps[index][step]
            assert [own[ids[index].index(i)] for i in found.kept.tolist()] == kept, f"{step}, image {index}"
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)
    read = [[sum(t in own for t in tokens) for tokens in slow.tokens_at] for own, _ in slow.images]
    assert list(map(list, reduced.layers.read)) == read
    tokens = ids_of(generate_reduced(model, reduced, OPTIONS))
    assert tokens[0] == int(expected[-1].argmax())
    embedding = theirs.get_input_embeddings()
    assert tokens == slow.answer(embedding, tokens[0], reduced.following, len(tokens))


@pytest.mark.parametrize(
    ("family", "first", "second"),
    [
        ("llava", "vscan", "vscan_stage2"),
        ("llava_next", "visionzip", "pyramiddrop"),
        ("smolvlm", "random", "sparsevlm"),
        ("qwen3_vl", "divprune", "dart"),
        ("qwen2_vl", "downsample", "fastv"),
    ],
)
def test_a_second_method_cuts_what_a_first_left(
    family: str, first: str, second: str, pair: Callable[[str], Any]
) -> None:
    model, theirs = pair(family)
    before = reduce_prompt(model, prompt_of(model, family), None, get_reducer(first), "70%")
    ids = [keep.kept.tolist() for keep in before.keep_maps]
    if first == "downsample":  # smaller pictures, each with all of its tokens
        ids = [list(range(item.grid.tokens)) for item in before.features]
    reduced = reduce_further(model, before, get_reducer(second, counting="final"), "30%")
    assert reduced.keep_maps == before.keep_maps and reduced is not before
    check_against_slow_run(model, theirs, reduced, second, ids)
    assert before.layers is None and len(before.keep_maps[0].kept) == len(before.features[0].features)
    for read, own, keep in zip(reduced.layers.read, ids, reduced.keep_maps, strict=True):
        assert read[0] == len(own) > read[-1] == keep.count
        assert {*keep.kept.tolist()} <= {*own}


def test_what_cannot_follow_is_refused(pair: Callable[[str], Any]) -> None:
    model, _ = pair("llava")
    prompt = prompt_of(model, "llava")
    before = reduce_prompt(model, prompt, None, get_reducer("strided"), "50%")
    inside = reduce_prompt(model, prompt, None, get_reducer("fastv"), "90%")
    for reduced, method, budget, words in (
        (before, get_reducer("strided"), "25%", "cannot go second"),
        (inside, get_reducer("dart"), "25%", "inside the language model itself"),
        (before, get_reducer("fastv"), 9, "more than are left of the image.*kept 8 of 16.*at most 8"),
        (before, get_reducer("mustdrop", counting="final"), 3, "without salience"),
    ):
        with pytest.raises(ReductionError, match=words):
            reduce_further(model, reduced, method, budget)


@pytest.fixture(scope="session")
def nano() -> tuple[Any, Any]:
    """fovea-nano, and the same under plain transformers."""
    folder = Path(foveate.__file__).parent / "assets" / "fovea-nano"
    if not (folder / "model.safetensors").exists():
        pytest.skip("this checkout carries no weights of fovea-nano")
    theirs = transformers.AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return load(folder, device="cpu", dtype="float32"), theirs.eval()


def test_fovea_nano_answers_and_says_what_each_layer_kept(nano: tuple[Any, Any]) -> None:
    model, theirs = nano
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "is there a star?"}]}
    prompt = model.prepare([message], images=[tiny.picture(90, 80, 3)])
    expected = {
        "fastv": [144, 57, 57, 57, 57, 57],
        "pyramiddrop": [144, 144, 72, 36, 18, 18],
        "sparsevlm": [144, 79, 79, 43, 43, 43],
    }
    for name in NAMES:
        settings = {"counting": "final"} if name == "vscan_stage2" else {}
        reduced = reduce_prompt(model, prompt, None, get_reducer(name, **settings), "50%")
        check_against_slow_run(model, theirs, reduced, name, [list(range(144))])
        [read] = reduced.layers.read
        assert read[0] == 144 and read[-1] == reduced.keep_maps[0].count
        assert reduced.layers.mean <= 72 or name == "vscan_stage2"
        if name in expected:
            assert list(read) == expected[name]
    first = reduce_prompt(model, prompt, None, get_reducer("vscan"), 24)
    both = reduce_further(model, first, get_reducer("vscan_stage2"), 16)
    check_against_slow_run(model, theirs, both, "vscan_stage2", [first.keep_maps[0].kept.tolist()])
    assert both.layers.read == ((24, 24, 24, 8, 8, 8),) and both.layers.mean == 16


def test_the_documented_example_runs(nano: tuple[Any, Any], capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "reduction.md").read_text(encoding="utf-8")
    [block] = [one for one in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "layers.read" in one]
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "is there a star?"}]}
    prompt = nano[0].prepare([message], images=[tiny.picture(90, 80, 3)])
    names = {"model": nano[0], "prompt": prompt}
    exec(f"from foveate.reduce import generate_reduced, get_reducer, reduce_prompt\n{block}", names)
    assert names["answer"] and capsys.readouterr().out == "(144, 57, 57, 57, 57, 57) 57\n"


@pytest.mark.parametrize("family", CUT)
def test_records_say_what_was_kept(family: str, pair: Callable[[str], Any]) -> None:
    """Counts meet the budget in the mean of layers, later maps are within earlier ones, and no text is missing."""
    model, _ = pair(family)
    prompt = prompt_of(model, family)
    text = sum(token != model.image_token_id for token in prompt.token_ids)
    for name in NAMES:
        method = get_reducer(name)
        reduced = reduce_prompt(model, prompt, None, method, "90%")
        assert reduced.keep_maps == [] and reduced.layers is None, (
            "nothing is known before the prompt is read"
        )
        tokens = generate_reduced(model, reduced, OPTIONS)
        next(tokens)
        report = reduced.layers
        for item, read, cached, maps in zip(
            prompt.media, report.read, report.cached, report.keep_maps, strict=True
        ):
            plan = method.plan(item.grid, "90%")
            assert sum(read) / len(read) <= plan.kept < item.grid.tokens
            assert read[0] == item.grid.tokens and read[-1] == maps[-1].count < read[0]
            assert cached == ((read[-1],) * len(read) if method.trims_cache else read)
            before = set(range(item.grid.tokens))
            for keep in maps:
                kept = keep.kept.tolist()
                assert kept == sorted(kept) and set(kept) <= before
                assert keep.stage.startswith("layer ") and "the mean over layers" in keep.reason
                before = set(kept)
        assert [keep.count for keep in reduced.keep_maps] == [read[-1] for read in report.read]
        assert report.mean == sum(map(sum, report.read)) / len(report.read[0])
        left = sum(keep.count for keep in reduced.keep_maps)
        assert reduced_logits(model, reduced).shape[0] == text + left


@pytest.mark.parametrize("family", CUT)
def test_keeping_everything_is_bit_identical(family: str, pair: Callable[[str], Any]) -> None:
    """Full budgets, and the machinery itself with cuts that drop nothing."""
    model, _ = pair(family)
    prompt = prompt_of(model, family)
    expected = model.logits(prompt)
    plain = ids_of(model.generate(prompt, max_new_tokens=STEPS))
    for name in NAMES:
        whole = reduce_prompt(model, prompt, None, get_reducer(name), "100%")
        assert whole.inside is None and all(keep.is_full for keep in whole.keep_maps)
        assert torch.equal(reduced_logits(model, whole), expected)
        reduced = reduce_prompt(model, prompt, None, get_reducer(name), "90%")
        kept_whole = tuple(
            replace(image, cuts=tuple(Cut(layer=cut.layer, kept=len(image.ids)) for cut in image.cuts))
            for image in reduced.inside.images
        )
        reduced.inside = replace(reduced.inside, images=kept_whole)
        assert torch.equal(reduced_logits(model, reduced), expected)
        assert all(keep.is_full for keep in reduced.keep_maps)
        assert ids_of(generate_reduced(model, reduced, OPTIONS)) == plain


def test_hooks_are_gone_and_touch_no_other_call(pair: Callable[[str], Any]) -> None:
    """Between two tokens of a reduced answer the model answers others as ever; after it no hook is left."""
    model, _ = pair("llava")
    prompt = prompt_of(model, "llava")
    expected = model.logits(prompt)
    reduced = reduce_prompt(model, prompt, None, get_reducer("pyramiddrop"), "80%")
    alone = ids_of(generate_reduced(model, reduced, OPTIONS))
    answer = generate_reduced(model, reduced, OPTIONS)
    together = []
    for token in answer:
        together.append(token.id)
        assert torch.equal(model.logits(prompt), expected)
    assert together == alone
    assert not any(layer._forward_pre_hooks for layer in model.language_model.layers)
    # While a run is under way its hooks stand; a call with a state of its own passes them by.
    meanwhile: list[bool] = []

    def ask(*_: Any) -> None:
        if not meanwhile:
            meanwhile.append(False)
            meanwhile.append(torch.equal(model.logits(prompt), expected))

    handle = model.language_model.layers[2].register_forward_hook(ask)
    try:
        assert ids_of(generate_reduced(model, reduced, OPTIONS)) == alone
    finally:
        handle.remove()
    assert meanwhile == [False, True]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_what_decoders_can_be_cut_is_what_the_table_says(family: str, pair: Callable[[str], Any]) -> None:
    model, _ = pair(family)
    assert model.plain_decoder == (family in CUT)
    if family in CUT:
        return
    prompt = prompt_of(model, family) if family != "paligemma2" else prompt_of(model, "paligemma")
    for name in NAMES:
        with pytest.raises(ReductionError, match=r"sliding windows or tokens that see each other"):
            reduce_prompt(model, prompt, None, get_reducer(name), "90%")


def test_what_cannot_be_met_is_refused(pair: Callable[[str], Any]) -> None:
    model, _ = pair("qwen2_vl")
    prompt = prompt_of(model, "qwen2_vl")
    with pytest.raises(ReductionError, match=r"mean is .* at least"):
        reduce_prompt(model, prompt, None, get_reducer("fastv"), 1)
    with pytest.raises(ReductionError, match="M-RoPE"):
        reduce_prompt(model, prompt, None, get_reducer("fastv", positions="repack"), "90%")
    with pytest.raises(ReductionError, match="layers 0 to 2"):
        reduce_prompt(model, prompt, None, get_reducer("fastv", cuts=(3,)), "90%")
    with pytest.raises(ReductionError, match=r"without salience.*request\(\)"):
        reduce_prompt(model, prompt, model.encode(prompt.media), get_reducer("mustdrop"), "90%")
