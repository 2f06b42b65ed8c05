"""What the claims about reduction stand on: made models, the control of HiRED's tiles, timing rows, and verdicts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from foveate.claims import made_models, registry
from foveate.claims.asking import dialogues
from foveate.claims.base import Outcome, Tier
from foveate.claims.clips import new_objects
from foveate.claims.hired_tiles import BUDGET, FAMILIES, HIRED, LEVEL, SIZE, UNIFORM
from foveate.claims.inference_optimal import BUDGETS, exponent
from foveate.claims.llmc_protocol import BOTH, FULL, INT8, REDUCED, in_both_orders
from foveate.claims.reduction_speed import LOADS as SPEED_LOADS
from foveate.claims.tile_control import LevelHiRED, objects_kept
from foveate.claims.timing import Bench, noise_pictures, one_thread, ratio_of_runs, serve_load
from foveate.engine import VisualBudget
from foveate.models import load
from foveate.reduce import get_reducer
from foveate.reduce.layout import layout_of
from foveate.world import render, sample_scene

ASK = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many objects are there?"}]}
]


@pytest.fixture(scope="module")
def tiled():
    return made_models.tiled_nano()


# -- made models ------------------------------------------------------------------------------------------


def test_random_models_have_the_published_counts_of_tokens():
    lone = made_models.llava(made_models.TINY, made_models.TINY_TOWER)
    (picture,) = noise_pictures(1, side=336, seed=0)
    assert lone.prepare(ASK, images=[picture]).media[0].grid.tokens == 576 and lone.salience_kind == "cls"
    again = made_models.llava(made_models.TINY, made_models.TINY_TOWER)
    for weight, other in zip(lone.hf_model.parameters(), again.hf_model.parameters(), strict=True):
        assert torch.equal(weight, other)
    words = lone.hf_model.get_input_embeddings().weight
    assert words[: len(lone.tokenizer)].abs().sum(1).min() > 0 and not words[len(lone.tokenizer) :].any()
    next_ = made_models.llava_next(made_models.TINY, made_models.TINY_TOWER)
    (picture,) = noise_pictures(1, side=672, seed=0)
    assert next_.prepare(ASK, images=[picture]).media[0].grid.tokens == 576 + 48 * 49


def test_the_overview_of_the_tiled_model_is_fovea_nano(tiled):
    asked = dialogues("shapes", FAMILIES, pictures=1, each=1, seed=0, size=SIZE)
    small = asked[0].image.resize((168, 168), resample=3)
    nano = load()
    features = nano.encode(nano.prepare(ASK, images=[small]).media)[0].features
    prompt = tiled.prepare(ASK, images=[asked[0].image])
    assert prompt.media[0].grid.tokens == 144 + 24 * 25
    ours = tiled.encode(prompt.media)[0].features[:144]
    assert torch.nn.functional.cosine_similarity(ours, features).min() > 0.99


# -- HiRED's tiles ----------------------------------------------------------------------------------------


def test_the_control_differs_in_the_tiles_alone(tiled):
    asked = dialogues("shapes", FAMILIES, pictures=2, each=1, seed=0, size=SIZE)
    prompt = tiled.prepare(ASK, images=[asked[0].image])
    layout = layout_of(prompt.media[0].grid)
    counts = {}
    for name, reducer in (("hired", get_reducer("hired")), ("level", LevelHiRED())):
        features = tiled.encode(prompt.media, salience=reducer.request())[0]
        kept = reducer.select(features, reducer.plan(features.grid, BUDGET)).mask()[layout.content]
        counts[name] = torch.bincount(layout.tile[kept], minlength=5).tolist()
    overview = layout.overview
    assert sum(counts["hired"]) == sum(counts["level"]) == 148
    assert counts["hired"][overview] == counts["level"][overview] == 74
    tiles = [count for place, count in enumerate(counts["level"]) if place != overview]
    assert max(tiles) - min(tiles) <= 1 and counts["hired"] != counts["level"]


def test_objects_tokens_are_counted_as_one_by_one(tiled):
    asked = dialogues("shapes", FAMILIES, pictures=2, each=1, seed=0, size=SIZE)
    assert objects_kept(tiled, None, BUDGET, asked) == [1.0, 1.0]
    found = objects_kept(tiled, get_reducer("hired"), BUDGET, asked)
    for number, share in zip(sorted({d.number for d in asked}), found, strict=True):
        (image,) = {id(d.image): d.image for d in asked if d.number == number}.values()
        ids = render(sample_scene("shapes", "test", number), SIZE).ids
        prompt = tiled.prepare(ASK, images=[image])
        reducer = get_reducer("hired")
        features = tiled.encode(prompt.media, salience=reducer.request())[0]
        kept = set(reducer.select(features, reducer.plan(features.grid, BUDGET)).kept.tolist())
        shows = there = 0
        for row in range(24):
            for column in range(24):
                patch = ids[14 * row : 14 * row + 14, 14 * column : 14 * column + 14]
                if (patch >= 0).mean() > 0.5:
                    shows += 1
                    there += 144 + 25 * row + column in kept
        assert share == pytest.approx(there / shows) and shows > 5


def with_parts(arm, seed, right, families, **more):
    row = {
        "right": right,
        "families": " ".join(f"{family}*1" for family in families),
        "pictures": " ".join(f"{i // 2}*1" for i in range(len(right))),
    }
    return {"arm": arm, "seed": seed, **row, **more}


def share_right(share, count):
    return "".join("1" if i < share * count else "0" for i in range(count))


def test_hired_is_judged_by_answers_and_by_objects():
    claim = registry.get("hired-tiles")

    def rows(hired, level, uniform, kept):
        return [
            with_parts(arm, 1, share_right(share, 200), ["e"] * 200, objects_kept_by_picture=objects)
            for arm, share, objects in (
                (HIRED, hired, [kept + i / 1000 for i in range(100)]),
                (LEVEL, level, [0.5] * 100),
                (UNIFORM, uniform, [0.5] * 100),
            )
        ]

    verdict = claim.verdict(rows(0.9, 0.7, 0.6, 0.6))
    assert verdict.outcome is Outcome.REPRODUCED
    assert [round(e.interval.value, 2) for e in verdict.estimates] == [0.3, 0.2, 0.15]
    assert claim.verdict(rows(0.9, 0.7, 0.6, 0.3)).outcome is Outcome.NOT_REPRODUCED
    assert claim.verdict(rows(0.7, 0.7, 0.6, 0.6)).outcome is Outcome.UNDECIDED


# -- LLMC+'s protocol -------------------------------------------------------------------------------------


def test_every_question_is_asked_first_and_second():
    asked = dialogues("shapes", ("existence", "attribute"), pictures=4, each=1, seed=0)
    talks = in_both_orders(asked)
    assert [talk.turns[0] for talk in talks] == [d.turns[0] for d in asked]
    second = [talk.turns[1] for talk in talks]
    assert second[4:] + second[:4] == [d.turns[0] for d in asked]
    for talk in talks:
        assert {turn.family for turn in talk.turns} == {"existence", "attribute"}
    with pytest.raises(AssertionError, match="one question a family"):
        in_both_orders([asked[0], dataclasses.replace(asked[1], number=-1)])


def protocol(first, second, reading):
    """Rows whose arms get these shares right, the first of them, in the order full, reduced, int8, both."""
    parts = {"first": first, "second": second, "reading": reading}
    return [
        {
            "arm": arm,
            "seed": 1,
            "parts": {
                name: with_parts(arm, 1, share_right(shares[place], 400), ["e"] * 400)
                for name, shares in parts.items()
            },
        }
        for place, arm in enumerate((FULL, REDUCED, INT8, BOTH))
    ]


def test_losses_are_compared_by_question():
    claim = registry.get("llmc-protocol")
    good = protocol((0.95, 0.85, 0.94, 0.84), (0.95, 0.75, 0.94, 0.74), (0.9, 0.2, 0.9, 0.2))
    verdict = claim.verdict(good)
    assert verdict.outcome is Outcome.REPRODUCED and "reading loses 70.0 points" in verdict.reason
    assert [round(e.interval.value, 3) for e in verdict.estimates] == [0.6, 0.1, 0.0]
    worse = claim.verdict(protocol((0.95, 0.85, 0.94, 0.6), (0.95, 0.75, 0.94, 0.5), (0.9, 0.2, 0.9, 0.2)))
    assert worse.outcome is Outcome.NOT_REPRODUCED and worse.estimates[2].failed
    assert worse.estimates[2].interval.value == pytest.approx(0.24)


# -- redundancy of space and of time ----------------------------------------------------------------------


def test_new_object_tokens_are_found_as_one_by_one():
    generator = np.random.default_rng(4)
    pictures = [generator.integers(0, 256, (9, 12, 3)).astype(np.uint8)]
    ids = [generator.integers(-1, 1, (9, 12)) for _ in range(3)]
    pictures.append(pictures[0].copy())
    pictures[1][3:6, 4:8] ^= 64  # one patch and parts of others change
    pictures.append(pictures[1] ^ 1)  # everything, by less than shows
    found = new_objects(pictures, ids, 3)
    for frame in range(3):
        for row in range(3):
            for column in range(4):
                where = (slice(3 * row, 3 * row + 3), slice(3 * column, 3 * column + 3))
                here = (ids[frame][where] >= 0).sum() > 4.5
                if frame:
                    before, now = pictures[frame - 1][where].astype(int), pictures[frame][where].astype(int)
                    here &= abs(now - before).max() > 8
                assert found[frame, 4 * row + column] == here
    assert found[0].any() and found[1].any() and not found[2].any()


def test_redundancy_is_judged_clip_by_clip():
    claim = registry.get("llmc-redundancy")

    def rows(evs_moving, evs_unrelated):
        return [
            {
                "arm": arm,
                "seed": 1,
                "moving_by_clip": [moving + i / 1000 for i in range(40)],
                "unrelated_by_clip": [unrelated] * 40,
            }
            for arm, moving, unrelated in (("evs", evs_moving, evs_unrelated), ("fastervlm", 0.5, 0.6))
        ]

    assert claim.verdict(rows(0.7, 0.3)).outcome is Outcome.REPRODUCED
    assert claim.verdict(rows(0.4, 0.3)).estimates[0].failed
    assert claim.verdict(rows(0.7, 0.9)).estimates[1].failed


# -- the exponent of tokens -------------------------------------------------------------------------------


def test_planted_exponents_are_found():
    tokens = np.array([7.0, 14.0, 28.0, 144.0])
    errors = np.stack([0.9 * tokens**-0.3, 0.5 * tokens**-0.02], axis=1)
    assert exponent(tokens, errors) == pytest.approx([0.3, 0.02])


def test_exponents_of_kinds_are_compared():
    claim = registry.get("inference-optimal")

    def rows(reading, objects):
        made = []
        for arm, count in BUDGETS.items():
            shapes = [1 - 0.6 * (count / 7) ** -power for power in (objects, objects, 0.1)]
            right = "".join(share_right(share, 200) for share in shapes)
            families = [name for name in ("existence", "attribute", "count") for _ in range(200)]
            page = share_right(1 - 0.9 * (count / 7) ** -reading, 200)
            made.append(
                {
                    "arm": arm,
                    "seed": 1,
                    "parts": {
                        "shapes": with_parts(arm, 1, right, families),
                        "page": with_parts(arm, 1, page, ["reading"] * 200),
                    },
                }
            )
        return made

    verdict = claim.verdict(rows(0.6, 0.2))
    assert verdict.outcome is Outcome.REPRODUCED
    assert [e.interval.value for e in verdict.estimates] == pytest.approx([0.4, 0.5], abs=0.03)
    assert "beta of reading 0.6" in verdict.reason.replace("0.59", "0.6")
    assert claim.verdict(rows(0.15, 0.5)).outcome is Outcome.NOT_REPRODUCED


# -- timing -----------------------------------------------------------------------------------------------


def test_a_burst_counts_tokens_and_blocks():
    model = made_models.llava(made_models.TINY, made_models.TINY_TOWER)
    pictures = noise_pictures(5, side=336, seed=3)
    found = {}
    with one_thread():
        assert torch.get_num_threads() == 1
        for name, visual in (("full", None), ("fewer", VisualBudget(budget="10%"))):
            bench = Bench(model, visual, slots=3, context=640)
            ticks = []
            found[name] = {**bench.alone(pictures[:2]), **bench.burst(pictures[2:], 4, ticks.append)}
            assert ticks[-1] == 3
            bench.engine.check_integrity()
    full, fewer = found["full"], found["fewer"]
    assert (full["visual_tokens"], fewer["visual_tokens"]) == (576, 57)
    assert full["output_tokens"] == fewer["output_tokens"] == 12
    text = len(model.prepare(ASK, images=pictures[:1]).token_ids) - 576
    for row in (full, fewer):
        assert row["blocks_alone"] == -(-(row["visual_tokens"] + text + 1) // 16)
    assert full["first_token_seconds"] >= full["prefill_seconds"] > 0


def test_no_arm_profits_from_another():
    model = made_models.llava(made_models.TINY, made_models.TINY_TOWER)
    load = dataclasses.replace(SPEED_LOADS[Tier.SMOKE], alone=2, burst=2, tokens=2)
    for _ in range(2):
        row = serve_load(model, load, None, seed=1)
        assert model.pixels.hits == 0 and (row["requests"], row["output_tokens"]) == (2, 4)


def test_ratios_pair_runs_of_a_seed():
    rows = [
        {"arm": arm, "seed": seed, "x": x * (1 + seed)}
        for seed in range(4)
        for arm, x in (("a", 6), ("b", 2))
    ]
    found = ratio_of_runs(rows, "x", "a", "b")
    assert (found.value, found.low, found.high) == pytest.approx((3, 3, 3))
    alone = ratio_of_runs(rows[:2], "x", "a", "b")
    assert (alone.low, alone.high) == (0, np.inf)


def test_speed_claims_are_judged_by_their_ratios():
    claim = registry.get("reduction-speed")

    def rows(first, slow):
        return [
            {
                "arm": arm,
                "seed": seed,
                "first_token_seconds": wait * (1 + seed / 100),
                "tokens_per_second": speed,
            }
            for seed in range(5)
            for arm, wait, speed in (
                ("full", first, 10),
                ("fastervlm-10", 1.0, 50),
                ("fastervlm-50", 2.0, 20),
                ("divprune-50", 2.0, slow + seed / 100),
            )
        ]

    assert claim.verdict(rows(4.0, 15)).outcome is Outcome.REPRODUCED
    assert claim.verdict(rows(2.0, 15)).outcome is Outcome.NOT_REPRODUCED
    assert claim.verdict(rows(4.0, 8)).estimates[3].failed
    hired = registry.get("hired-speed")
    measured = [
        {"arm": arm, "seed": seed, "tokens_per_second": speed + seed / 100, "blocks_alone": blocks}
        for seed in range(3)
        for arm, speed, blocks in (("full", 10, 184), ("hired-20", 40, 38))
    ]
    assert hired.verdict(measured).outcome is Outcome.REPRODUCED
