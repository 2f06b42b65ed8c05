"""Methods over frames: each equals its slow reference, and each keeps the contract's promises."""

from __future__ import annotations

import importlib
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made import raster, stacked, tiled
from PIL import Image
from video_references import VIDEO_REFERENCES

from foveate.errors import ReductionError
from foveate.models.records import MediaFeatures, VisualGrid
from foveate.reduce import KeepMap, get_reducer, list_reducers
from foveate.reduce.layout import layout_of
from foveate.reduce.overlay import draw_overlay
from foveate.reduce.registry import methods_for, reducer_class
from foveate.reduce.video.holitom import savings, scenes_of
from foveate.reduce.video.joining import frame_maps, join_frames, split_frames, video_grid
from foveate.reduce.video.prunevid import contiguous
from foveate.reduce.video.rows import VIDEO_METHODS

NAMES = [info.name for info in VIDEO_METHODS]
WIDTH = 20
# (frames, rows, cols): one frame, two, one token each, a group and a half, more frames than scenes.
SHAPES = ((1, 5, 3), (2, 3, 3), (5, 1, 1), (3, 1, 7), (6, 4, 3), (13, 2, 4))


def video(grid: VisualGrid, frames: int, seed: int, *, ties: bool = False) -> MediaFeatures:
    """Scenes of a few frames in which some places stand still and others move; with ties, of few exact values."""
    generator = torch.Generator().manual_seed(seed)
    n = grid.tokens
    items = []
    features = torch.zeros(n, WIDTH)
    for frame in range(frames):
        if ties:
            fresh = torch.eye(WIDTH)[torch.randint(4, (n,), generator=generator)]
            salience = torch.randint(1, 4, (n,), generator=generator) / 8
        else:
            fresh = torch.randn(n, WIDTH, generator=generator)
            salience = torch.randn(n, generator=generator).mul(1.5).exp()
        moves = torch.rand(n, generator=generator) < (1.0 if frame % 4 == 0 else 0.3)
        features = torch.where(moves[:, None], fresh, features if ties else features + 0.1 * fresh)
        items.append(
            MediaFeatures(
                features=features.clone(),
                grid=grid,
                salience=salience / salience.sum(),
                deepstack=(2 * features,),
                digest=f"frame {frame} of {seed}",
            )
        )
    return join_frames(items)


def least(name: str, frames: int) -> int:
    """Frames that the method keeps whole."""
    return {"evs": 1, "dycoke": -(-frames // 4)}.get(name, 0)


def budgets(name: str, frames: int, n: int) -> list[int]:
    """One, two, a prime in between, shares that do not divide, all but one, all; of those the method can do."""
    total = frames * n
    wanted = {1, 2, 5, frames, n, total // 3, total // 2 + 1, 2 * total // 3, total - 1, total}
    return sorted(k for k in wanted if max(1, least(name, frames) * n) <= k <= total)


def as_video(item: MediaFeatures, k: int) -> dict[str, object]:
    """What a reference is given."""
    frames = item.grid.frames
    return {
        "features": item.features.double().numpy().reshape(frames, -1, WIDTH),
        "salience": item.salience.double().numpy().reshape(frames, -1),
        "k": k,
    }


def test_every_method_has_a_reference() -> None:
    assert {*NAMES} == {*VIDEO_REFERENCES}


@pytest.mark.parametrize("info", VIDEO_METHODS, ids=lambda info: info.name)
def test_every_entry_is_what_its_class_says(info: object) -> None:
    cls = reducer_class(info.name)
    assert (cls.name, cls.needs, cls.stage) == (info.name, info.needs, info.stage)
    assert info.rule and info.paper and info.headline
    assert info.arxiv in importlib.import_module(cls.__module__).__doc__
    assert info in list_reducers()
    assert info.name not in methods_for("cls", True)
    assert {*methods_for("cls", True, near=info.name)} < {*NAMES}


@pytest.mark.parametrize("ties", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_reference(name: str, shape: tuple[int, int, int], ties: bool) -> None:
    frames, rows, cols = shape
    reducer = get_reducer(name)
    items = [video(raster(rows, cols), frames, seed, ties=ties) for seed in range(3)]
    for k in budgets(name, frames, rows * cols):
        plan = reducer.plan(items[0].grid, k)
        for item, keep in zip(items, reducer.select_batch(items, [plan] * 3), strict=True):
            ids, expected = stacked(VIDEO_REFERENCES[name](as_video(item, k)))
            assert keep.kept.tolist() == ids
            assert plan.kept == len(ids) == k
            reduced = reducer.apply(item, keep)
            np.testing.assert_allclose(reduced.features.numpy(), expected, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(reduced.deepstack[0].numpy(), 2 * expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_every_keep_map_promises(name: str, data: st.DataObject) -> None:
    """Exactly k as planned, ascending, unique, never a separator; neighbours in a batch change nothing."""
    reducer = get_reducer(name)
    grids = [raster(3, 3), raster(1, 1), raster(2, 5), tiled(3, 1, 2)]
    items, plans = [], []
    for _ in range(data.draw(st.integers(1, 4))):
        frames, seed = data.draw(st.integers(1, 9)), data.draw(st.integers(0, 50))
        items.append(video(data.draw(st.sampled_from(grids)), frames, seed, ties=seed % 3 == 0))
        content = layout_of(items[-1].grid).count
        whole = least(name, frames) * content // frames
        plans.append(reducer.plan(items[-1].grid, data.draw(st.integers(max(1, whole), content))))
    maps = reducer.select_batch(items, plans)
    for item, plan, keep in zip(items, plans, maps, strict=True):
        kept = keep.kept.tolist()
        assert kept == sorted(set(kept))
        assert len(kept) == plan.kept
        assert set(kept) <= set(layout_of(item.grid).content.tolist()) or plan.is_full
        reduced = reducer.apply(item, keep)
        assert reduced.features.shape == (plan.kept, WIDTH)
        assert torch.isfinite(reduced.features).all()
        again = KeepMap.from_json(keep.to_json())
        assert torch.equal(reducer.apply(item, again).features, reduced.features), "not the map it was"
        assert again.to_dict() == keep.to_dict()
    order = data.draw(st.permutations(range(len(items))))
    shuffled = reducer.select_batch([items[i] for i in order], [plans[i] for i in order])
    for place, index in enumerate(order):
        alone = reducer.select(items[index], plans[index])
        for other in (shuffled[place], alone):
            assert torch.equal(other.kept, maps[index].kept)
            features = [reducer.apply(items[index], one).features for one in (other, maps[index])]
            assert torch.allclose(*features, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("budget", ["full", "100%", "N"])
def test_full_is_no_reducer_at_all(name: str, budget: str) -> None:
    reducer = get_reducer(name)
    for grid in (raster(3, 3), tiled(3, 1, 2)):
        item = video(grid, 5, 1)
        plan = reducer.plan(item.grid, item.grid.tokens if budget == "N" else budget)
        keep = reducer.select(item, plan)
        assert keep.is_full
        assert reducer.apply(item, keep) is item


def test_whole_frames_are_promised_before_encoding() -> None:
    grid = video_grid([raster(3, 3)] * 6)
    assert get_reducer("evs").plan(grid, 9).kept == 9
    with pytest.raises(ReductionError, match=r"cannot cut 6 frames to 8 tokens.*1 of them whole, which is 9"):
        get_reducer("evs").plan(grid, 8)
    with pytest.raises(ReductionError, match="18 tokens"):
        get_reducer("dycoke").plan(grid, "33%")
    assert get_reducer("dycoke", group=6).plan(grid, "33%").kept == 17
    for name in ("evs", "dycoke"):
        with pytest.raises(ReductionError, match="cannot cut a single picture"):
            get_reducer(name).plan(raster(3, 3), "50%")
        assert get_reducer(name).plan(raster(3, 3), "full").is_full
    for name in set(NAMES) - {"evs", "dycoke"}:
        assert get_reducer(name).plan(grid, 1).kept == 1
        assert get_reducer(name).plan(raster(3, 3), "50%").kept == 4, "a still is a video of one frame"


def test_evs_keeps_what_changes() -> None:
    """In a scene that stands still but for one place, that place alone is kept beside the first frame."""
    grid = raster(3, 3)
    item = video(grid, 1, 0)
    still = [item.features.clone() for _ in range(4)]
    for frame, features in enumerate(still):
        features[5, frame] += 10.0
    items = [MediaFeatures(features=features, grid=grid, digest=str(i)) for i, features in enumerate(still)]
    reducer, joined = get_reducer("evs"), join_frames(items)
    keep = reducer.select(joined, reducer.plan(joined.grid, 12))
    assert keep.kept.tolist() == [*range(9), 9 + 5, 18 + 5, 27 + 5]
    one_more = reducer.select(joined, reducer.plan(joined.grid, 13))
    assert one_more.kept.tolist() == [*range(9), 9, 9 + 5, 18 + 5, 27 + 5], "of equal changes the first"


def test_vidcom2_gives_a_distinctive_frame_more() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.ones(6, 16, WIDTH) + 0.1 * torch.randn(6, 16, WIDTH, generator=generator)
    features[3] = torch.randn(16, WIDTH, generator=generator)
    items = [MediaFeatures(features=one, grid=raster(4, 4), digest=str(i)) for i, one in enumerate(features)]
    joined, reducer = join_frames(items), get_reducer("vidcom2")
    keep = reducer.select(joined, reducer.plan(joined.grid, 24))
    counts = [part.count for part in frame_maps(keep, raster(4, 4))]
    assert sum(counts) == 24
    assert counts[3] == max(counts) > 24 / 6 + 1
    assert min(counts) >= 1


def test_a_video_is_taken_apart_again() -> None:
    grid = tiled(3, 1, 2)
    item = video(grid, 5, 2)
    assert item.grid.tokens == 5 * grid.tokens == len(item.features)
    assert len(layout_of(item.grid).tiles) == 5 * 3
    keep = get_reducer("vidcom2").select(item, get_reducer("vidcom2").plan(item.grid, 7))
    parts = frame_maps(keep, grid)
    ids = [index * grid.tokens + own for index, part in enumerate(parts) for own in part.kept.tolist()]
    assert ids == keep.kept.tolist()
    reduced = get_reducer("vidcom2").apply(item, keep)
    pieces = split_frames(reduced, keep, [grid] * 5)
    assert [len(piece.features) for piece in pieces] == [part.count for part in parts]
    assert torch.equal(torch.cat([piece.features for piece in pieces]), reduced.features)
    assert torch.equal(torch.cat([piece.deepstack[0] for piece in pieces]), reduced.deepstack[0])
    with pytest.raises(ReductionError, match=r"not the frames of one video.*image 3 3 x 2"):
        video_grid([raster(2, 3), raster(2, 3), raster(3, 2)])


@pytest.mark.parametrize("name", ["fastervlm", "average_pool", "divprune"])
def test_methods_for_stills_take_a_video_frame_by_frame(name: str) -> None:
    """The frames are tiles that share the budget evenly, so spatial and temporal methods compare at equal counts."""
    item = video(raster(4, 4), 6, 3)
    reducer = get_reducer(name, tiles="uniform")
    keep = reducer.select(item, reducer.plan(item.grid, 24))
    assert [part.count for part in frame_maps(keep, raster(4, 4))] == [4] * 6


def test_a_video_is_drawn_frame_by_frame() -> None:
    grid = raster(4, 4)
    item = video(grid, 3, 0)
    keep = get_reducer("vidcom2").select(item, get_reducer("vidcom2").plan(item.grid, 10))
    picture = Image.new("RGB", (64, 64), (200, 40, 40))
    with pytest.raises(ReductionError, match="keep-map of 3 frames"):
        draw_overlay(picture, keep)
    drawn = [draw_overlay(picture, part).tobytes() for part in frame_maps(keep, grid)]
    assert len(set(drawn)) == 3


def test_scenes_are_the_ones_that_save_most() -> None:
    """Against every way to cut seven frames."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        alike = torch.rand(6, 5, generator=generator) < 0.7
        [saved] = savings(alike[None]).tolist()
        best = 0
        for cuts in itertools.product((False, True), repeat=6):
            starts = [0, *(gap + 1 for gap in range(6) if cuts[gap])]
            worth = 0
            for first, end in zip(starts, [*starts[1:], 7], strict=True):
                still = sum(all(alike[gap, place] for gap in range(first, end - 1)) for place in range(5))
                worth += still * (end - first - 1)
            best = max(best, worth)
        lengths = scenes_of(saved)
        starts = [sum(lengths[:index]) for index in range(len(lengths))]
        assert sum(lengths) == 7
        assert sum(saved[s][s + length - 1] for s, length in zip(starts, lengths, strict=True)) == best


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20))
def test_every_cluster_of_frames_becomes_one_scene(labels: list[int]) -> None:
    lengths = contiguous(labels)
    assert sum(lengths) == len(labels)
    assert len(lengths) == len(set(labels))
    assert min(lengths) >= 1


def test_frames_between_join_the_longer_neighbour() -> None:
    assert contiguous([0, 0, 0, 1, 0, 2, 2]) == [3, 1, 3], (
        "the second 0 stands between runs of 1 and 2 frames"
    )
    assert contiguous([0, 1, 1, 0, 0]) == [3, 2], "the first 0 has one neighbour"
    assert contiguous([1, 1, 0, 1, 1]) == [2, 3], "of equal runs the first stays"


def test_still_places_are_taken_apart_when_more_tokens_are_asked_for() -> None:
    """Two scenes of three equal frames: the pool has 8 tokens, and a budget of 17 leaves three places merged."""
    scenes = torch.eye(WIDTH)[torch.randperm(8, generator=torch.Generator().manual_seed(0))].reshape(
        2, 4, WIDTH
    )
    items = [
        MediaFeatures(
            features=scenes[frame // 3], grid=raster(2, 2), salience=torch.ones(4), digest=str(frame)
        )
        for frame in range(6)
    ]
    joined, reducer = join_frames(items), get_reducer("holitom")
    for k, merged in ((8, 8), (17, 3), (18, 3), (19, 2), (23, 0)):
        keep = reducer.select(joined, reducer.plan(joined.grid, k))
        used = keep.merge.weights != 0
        sources = torch.bincount(torch.searchsorted(keep.kept, keep.merge.into[used]), minlength=k)
        assert sources.tolist().count(3) == merged
        assert keep.count == k


def test_positions_are_the_authors_own() -> None:
    keeps = {name for name in NAMES if get_reducer(name).position_mode(m_rope=False) == "keep"}
    assert keeps == {"evs", "vidcom2", "fastvid"}


def test_settings_out_of_range_are_refused() -> None:
    for name, setting in (
        ("dycoke", {"group": 3}),
        ("dycoke", {"group": 0}),
        ("fastvid", {"step": 0}),
        ("fastvid", {"scenes": 0}),
        ("fastvid", {"merged": 1.5}),
        ("fastvid", {"alike": 2}),
        ("prunevid", {"scenes": -1}),
        ("prunevid", {"still": 2}),
        ("holitom", {"still": -2}),
        ("holitom", {"centre": 2}),
    ):
        with pytest.raises(ReductionError):
            get_reducer(name, **setting)
    with pytest.raises(ReductionError, match="cannot share tiles"):
        get_reducer("evs", tiles="uniform")
