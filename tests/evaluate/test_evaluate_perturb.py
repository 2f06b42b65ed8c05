"""Perturbation axes: names, what each variant changes, pixels that stay as they are."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from foveate.errors import FoveateError
from foveate.evaluate.contract import Parameters, Picture
from foveate.evaluate.perturb.axes import AXES, parse_variants
from foveate.evaluate.perturb.markers import DEFAULT_LOOK, LOOKS, MarkerLook, draw_markers, marker_look
from foveate.evaluate.perturb.pictures import Codec, Resize
from foveate.evaluate.perturb.variant import BASELINE, Variant
from foveate.evaluate.planning import RunPlan, TaskChoice, make_parts
from foveate.world.scene import MarkerStyle

# Shape, size and place of what is drawn must not move: published and own runs are compared over years. Labels are
# left out of these (their letters are Pillow's font, which may be refined), but for one whose plate is checked.
GOLDEN_OUTLINES = {
    "default": "6a884b15e2d1",
    "radius-1": "c49ef6913e1e",
    "radius-3": "4495a0d7e00a",
    "radius-10": "c0529eb38a2c",
    "radius-15": "1ad9e1da60bb",
    "square": "d4b734916adb",
    "diamond": "068ea33d3094",
    "triangle": "b16580392672",
    "font-0.2": "6a884b15e2d1",
    "font-1.0": "6a884b15e2d1",
    "label-below": "6a884b15e2d1",
    "label-left": "6a884b15e2d1",
    "label-right": "6a884b15e2d1",
    "digits": "6a884b15e2d1",
    "green": "6a884b15e2d1",
    "blue": "6a884b15e2d1",
    "yellow": "6a884b15e2d1",
}


def plain(size: tuple[int, int] = (160, 120)) -> Image.Image:
    return Image.new("RGB", size, (130, 150, 120))


def noisy() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))


def test_every_axis_point_has_a_variant_of_its_own() -> None:
    variants = [variant for axis in AXES.values() for variant in axis.variants()]
    assert len({variant.name for variant in variants}) == len(variants)
    for name, axis in AXES.items():
        for variant, point in zip(axis.variants(), axis.points, strict=True):
            assert variant.axis == name
            assert variant.name == (f"style-{point}" if name == "style" else point)
            changed = variant.describe()
            assert set(changed) > {"name", "axis"}, f"{point} changes nothing"


def test_vpbench_has_sixteen_changes_of_one_factor() -> None:
    assert len(AXES["markers"].points) == 16
    default = LOOKS[DEFAULT_LOOK].describe()
    for name in AXES["markers"].points:
        changed = {key for key, value in LOOKS[name].describe().items() if value != default[key]}
        assert len(changed) == 1, name
        world = LOOKS[name].world_style()
        assert len({f for f in MarkerStyle.__slots__ if getattr(world, f) != getattr(MarkerStyle(), f)}) == 1
    assert LOOKS[DEFAULT_LOOK].world_style() == MarkerStyle()


def test_variants_of_a_command_line() -> None:
    names = [v.name for v in parse_variants("codec:jpeg-85+webp-61, options,codec:jpeg-85")]
    assert names == ["baseline", "jpeg-85", "webp-61", "shift-1", "shift-2", "shift-3"]
    (_, kept) = parse_variants("tokens:fastervlm-9%")
    assert kept.parameters == {"reducer": "fastervlm", "visual_budget": "9%"}
    assert [v.name for v in parse_variants("markers")][1:] == list(AXES["markers"].points)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty name"),
        ("markers,", "empty name"),
        ("codec:", "empty name"),
        ("codec:jpeg-85+", "empty name"),
        ("marker", "'markers'"),
        ("markers:squar", "'square'"),
        ("markers:Default", "'default'"),
        ("codec:jpeg", "quality of None for jpeg"),
        ("codec:jpeg-0", "1 to 100"),
        ("codec:jpeg-101", "1 to 100"),
        ("codec:gif-80", "png, jpeg, webp"),
        ("codec:png-80", "it loses nothing"),
        ("codec:JPEG 85", "has no variant"),
        ("resize:2", "FACTORx-FILTER"),
        ("resize:0x-bicubic", "above 0"),
        ("resize:9999999x-bicubic", "up to 8"),
        ("resize:2x-cubic", "bicubic"),
        ("tokens:fastervlm", "METHOD-BUDGET"),
        ("tokens:fastvlm-25%", "fastervlm"),
        ("tokens:random-0%", "keeps no token"),
        ("options:shift-0", "shift-N"),
        ("style:plane", "'plain'"),
    ],
)
def test_variants_that_do_not_exist_are_named(text: str, said: str) -> None:
    with pytest.raises(FoveateError, match=said.replace("(", r"\(")):
        parse_variants(text)


def test_a_variant_opens_a_picture_as_late_as_before() -> None:
    opened = []

    def load() -> Image.Image:
        opened.append(1)
        return plain().convert("L")

    variant = Variant(name="half", axis="resize", picture=Resize(factor=0.5))
    changed = variant.changed(Picture(load=load, name="p.png"))
    assert opened == []
    assert changed.open().size == (80, 60)
    assert changed.open().mode == "RGB"
    assert changed.name == "p.png (half)"
    untouched = Picture(load=load)
    assert BASELINE.changed(untouched) is untouched
    assert BASELINE.describe() == {"name": "baseline", "axis": ""}


def test_codecs_lose_what_they_say() -> None:
    image = noisy()
    assert Codec(name="png").apply(image).tobytes() == image.tobytes()
    losses = []
    for quality in (95, 85, 70, 30):
        once, again = (Codec(name="jpeg", quality=quality).apply(image) for _ in range(2))
        assert once.tobytes() == again.tobytes()
        losses.append(float(np.abs(np.asarray(once, float) - np.asarray(image, float)).mean()))
    assert losses == sorted(losses)
    assert losses[0] > 0
    assert Codec(name="webp", quality=80).apply(image).size == image.size
    described = Codec(name="jpeg", quality=85).describe()
    assert (described["codec"], described["quality"]) == ("jpeg", 85)
    assert described["library"]


def test_resize_keeps_a_pixel() -> None:
    assert Resize(factor=0.01).apply(plain((3, 3))).size == (1, 1)
    assert Resize(factor=1.5, filter="bilinear").apply(plain()).size == (240, 180)


# -- markers --------------------------------------------------------------------------------------------


def drawn(name: str, label: str = "A") -> np.ndarray:
    """Where a marker at (80, 60) changed the picture, [120, 160] bool."""
    before = np.asarray(plain())
    after = np.asarray(draw_markers(plain(), {label: (80, 60)}, marker_look(name)))
    return (before != after).any(-1)


def outline_of(name: str) -> np.ndarray:
    """Pixels in the outline's colour."""
    after = np.asarray(draw_markers(plain(), {"A": (80, 60)}, marker_look(name)))
    shade = {"green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}.get(name, (255, 0, 0))
    return (after == shade).all(-1)


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    ys, xs = np.nonzero(mask)
    return int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())


@pytest.mark.parametrize("name", LOOKS)
def test_outlines_are_pixel_for_pixel_what_they_were(name: str) -> None:
    digest = hashlib.sha256(np.packbits(outline_of(name)).tobytes()).hexdigest()[:12]
    assert digest == GOLDEN_OUTLINES[name]


def test_markers_have_the_size_asked_for() -> None:
    for radius in (3, 5, 10):
        mask = outline_of("default" if radius == 5 else f"radius-{radius}")
        assert box(mask) == (80 - radius - 1, 60 - radius - 1, 80 + radius + 1, 60 + radius + 1)
        assert not mask[60, 80], "a marker is an outline: what it marks stays in sight"
    assert box(outline_of("square")) == box(outline_of("default"))
    assert outline_of("square").sum() > outline_of("default").sum()


def test_labels_stand_where_they_are_said_to() -> None:
    plates = {name: box(drawn(name) & ~outline_of(name)) for name in LOOKS}
    assert plates["default"][3] < 60 - 5
    assert plates["label-below"][1] > 60 + 5
    assert plates["label-left"][2] < 80 - 5
    assert plates["label-right"][0] > 80 + 5
    heights = {name: plates[name][3] - plates[name][1] for name in ("font-0.2", "default", "font-1.0")}
    assert heights["font-0.2"] < heights["default"] < heights["font-1.0"]
    assert (drawn("default", "1") != drawn("default", "A")).any()


def test_a_label_without_room_above_moves_below_and_none_leaves_the_original_alone() -> None:
    image = plain()
    before = image.tobytes()
    after = np.asarray(draw_markers(image, {"REF": (80, 8)}, MarkerLook()))
    assert image.tobytes() == before
    plate = (after == (0, 0, 0)).all(-1)
    assert box(plate)[1] > 8 + 5
    edge = draw_markers(plain(), {"A": (0, 0), "B": (159.9, 119.9), "C": (-50, 400)}, MarkerLook())
    assert edge.size == (160, 120)


def test_a_variant_that_comes_to_the_same_as_another_is_not_asked():
    def kept(task, text, style="plain", **parameters):
        parts, left_out = make_parts(
            RunPlan(
                tasks=(TaskChoice(name=task, settings={"count": 3}),),
                variants=parse_variants(text),
                style=style,
                parameters=Parameters(**parameters),
            )
        )
        return [part.variant.name for part in parts], {row["variant"]: row["reason"] for row in left_out}

    names, reasons = kept("vpbench-depth", "options")
    assert names == ["baseline", "shift-1"]
    assert reasons == {"shift-2": "it asks the same as baseline", "shift-3": "it asks the same as shift-1"}
    assert kept("vpbench-depth", "style:plain+polite", "polite") == (
        ["baseline", "style-plain"],
        {"style-polite": "it asks the same as baseline"},
    )
    names, reasons = kept(
        "vpbench-depth", "tokens:divprune-50%+divprune-25%", reducer="divprune", visual_budget="25%"
    )
    assert names == ["baseline", "divprune-50%"]
    # Words are the same and pixels are not; a control is asked though all of it is the same.
    assert kept("vpbench-depth", "markers:green+blue,codec:png+jpeg-70,resize:0.5x-bicubic") == (
        ["baseline", "green", "blue", "png", "jpeg-70", "0.5x-bicubic"],
        {},
    )
    assert kept("vpbench-depth", "resize:1.0x-bicubic")[0] == ["baseline"]
