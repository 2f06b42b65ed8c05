"""The detection review's eight scenarios, staged on the world (arXiv 2504.09480).

The paper's abstract and code name closed-set, open-vocabulary, fine-grained, domain-related and dense (crowded)
detection, and its data sets include corrupted ones. Few-shot and small objects are named among its segmentation
scenarios only; whether they are among the eight for detection could not be confirmed, so the list is ours.

Owns the pictures, their classes and which objects belong to them; knows no task and no reply.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image

from foveate.errors import nearest
from foveate.evaluate.contract import EvaluationError, Picture
from foveate.evaluate.corruptions import CORRUPTIONS, LOOKS, Corruption
from foveate.evaluate.embedded import FIRST, STRETCH
from foveate.world import Scene, SceneObject, render, sample_scene
from foveate.world.asking import VALUES, phrase
from foveate.world.vocabulary import COLOURS, HELD_OUT, SHAPES, TEXTURES

_MADE_UP = ("dax", "wug", "fep", "zorp")  # names that no training text ties to a shape


@dataclass(frozen=True, kw_only=True)
class Staged:
    """One picture of a scenario.

    Attributes:
        index: of its scene in the test split.
        scene: what is drawn, without markers.
        size: height in pixels.
        named: every object of the asked kind with its class.
        classes: that a question about all of them lists.
        present, absent: classes that a question about one of them may name.
        examples: pictures and texts shown before the question.
        change: of the drawn pixels.
        tags: what the summary breaks down by.
    """

    index: int
    scene: Scene
    named: tuple[tuple[str, SceneObject], ...]
    classes: tuple[str, ...]
    present: tuple[str, ...]
    absent: tuple[str, ...]
    size: int = 168
    examples: tuple[Picture | str, ...] = ()
    change: Corruption | None = None
    tags: tuple[str, ...] = ()

    def picture(self) -> Picture:
        """Drawn when it is asked about."""
        return Picture(load=partial(_drawn, self.scene, self.size, self.change), name=f"shapes {self.index}")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """How a scenario is defined here.

    Attributes:
        definition: on the world, for the table in the docs.
        review: data sets that the review measures it on.
        stage: the picture from an index, its random stream, difficulty and severity; None where it cannot be asked.
        scenes: of the test split that one picture takes.
    """

    definition: str
    review: str
    stage: Callable[[int, random.Random, int, int], Staged | None]
    scenes: int = 1


def get_scenario(name: str) -> Scenario:
    """The scenario of this name.

    Raises:
        EvaluationError: no such scenario, naming the nearest.
    """
    if name not in SCENARIOS:
        raise EvaluationError(f"There is no scenario {name!r}", fix=nearest(name, SCENARIOS))
    return SCENARIOS[name]


def staged(name: str, first_stretch: int, *, difficulty: int, severity: int) -> Iterator[Staged]:
    """Pictures of a scenario in a fixed order; each scenario has the stretch `first_stretch` + its place."""
    scenario = get_scenario(name)
    first = FIRST + STRETCH * (first_stretch + list(SCENARIOS).index(name))
    for index in range(first, first + STRETCH, scenario.scenes):
        rng = random.Random(f"{name} {index} {difficulty}")
        made = scenario.stage(index, rng, difficulty, severity)
        if made is not None:
            yield made


def _drawn(scene: Scene, size: int, change: Corruption | None) -> Image.Image:
    image = Image.fromarray(render(scene, size).rgb)
    return change.apply(image) if change else image


def _scene(index: int, difficulty: int) -> Scene:
    return dataclasses.replace(sample_scene("shapes", "test", index, difficulty=difficulty), markers=())


def _by_shape(index: int, scene: Scene, **more: object) -> Staged:
    present = tuple(shape for shape in SHAPES if any(o.shape == shape for o in scene.objects))
    made = Staged(
        index=index,
        scene=scene,
        named=tuple((o.shape, o) for o in scene.objects),
        classes=SHAPES,
        present=present,
        absent=tuple(shape for shape in SHAPES if shape not in present),
    )
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


def _closed_set(index: int, rng: random.Random, difficulty: int, severity: int) -> Staged:
    return _by_shape(index, _scene(index, difficulty))


def _open_vocabulary(index: int, rng: random.Random, difficulty: int, severity: int) -> Staged | None:
    scene = _scene(index, difficulty)
    named = tuple((f"{o.colour} {o.shape}", o) for o in scene.objects)
    novel = tuple(f"{colour} {shape}" for colour, shape in sorted(HELD_OUT))
    present = tuple(label for label in novel if label in dict(named))
    if not present:
        return None
    absent = tuple(label for label in novel if label not in present)
    classes = tuple(sorted({label for label, _ in named} | set(novel)))
    return Staged(index=index, scene=scene, named=named, classes=classes, present=present, absent=absent)


def _domain_shift(index: int, rng: random.Random, difficulty: int, severity: int) -> Staged:
    look = rng.choice(sorted(LOOKS))
    return _by_shape(index, _scene(index, difficulty), change=Corruption(name=look, seed=index), tags=(look,))


def _composed(scenes: Sequence[Scene], columns: int, offsets: Sequence[tuple[float, float]]) -> Scene:
    """Scenes shrunk to 1/columns on the first one's ground; prints would be unreadable and are left out."""
    objects: list[SceneObject] = []
    for scene, (dx, dy) in zip(scenes, offsets, strict=True):
        objects += [
            dataclasses.replace(
                o,
                id=len(objects) + place,
                x=dx + o.x / columns,
                y=dy + o.y / columns,
                radius=o.radius / columns,
                text="",
            )
            for place, o in enumerate(scene.objects)
        ]
    return dataclasses.replace(scenes[0], objects=tuple(objects))


def _dense(index: int, rng: random.Random, difficulty: int, severity: int) -> Staged:
    scenes = [_scene(index + n, difficulty) for n in range(9)]
    places = [(n % 3 / 3, n // 3 / 3) for n in range(9)]
    return _by_shape(index, _composed(scenes, 3, places), size=504)


def _fine_grained(index: int, rng: random.Random, difficulty: int, severity: int) -> Staged:
    scene = _scene(index, difficulty)
    wanted = [{"texture": o.texture, "colour": o.colour, "shape": o.shape} for o in scene.objects]
    named = tuple((phrase(one), o) for one, o in zip(wanted, scene.objects, strict=True))
    present = tuple(dict.fromkeys(label for label, _ in named))
    wrong = [
        phrase({**one, key: value})
        for one in wanted
        for key in ("texture", "colour", "shape")
        for value in VALUES[key]
    ]
    absent = tuple(rng.sample(sorted(set(wrong) - set(present)), 2 * len(present)))
    classes = tuple(sorted({*present, *absent}))
    return Staged(index=index, scene=scene, named=named, classes=classes, present=present, absent=absent)


def _few_shot(index: int, rng: random.Random, difficulty: int, severity: int) -> Staged:
    scene, word = _scene(index, difficulty), rng.choice(_MADE_UP)
    shapes = {o.shape for o in scene.objects}
    there = rng.random() < 0.8 or shapes == set(SHAPES)
    shape = rng.choice(sorted(shapes if there else set(SHAPES) - shapes))
    examples: list[Picture | str] = []
    colours, textures = rng.sample(list(COLOURS), 2), rng.sample(TEXTURES, 2)
    for shot, (colour, texture) in enumerate(zip(colours, textures, strict=True)):
        item = SceneObject(
            id=0, shape=shape, colour=colour, size="large", texture=texture,
            x=0.5, y=0.5, radius=0.3, shade=COLOURS[colour],
        )  # fmt: skip
        alone = dataclasses.replace(scene, objects=(item,))
        picture = Picture(load=partial(_drawn, alone, 112, None), name=f"example {shot} of {index}")
        examples += [picture, f"This is a {word}."]
    return Staged(
        index=index,
        scene=scene,
        named=tuple((word, o) for o in scene.objects if o.shape == shape),
        classes=(word,),
        present=(word,) if there else (),
        absent=() if there else (word,),
        examples=tuple(examples),
    )


def _corruption(index: int, rng: random.Random, difficulty: int, severity: int) -> Staged:
    name = rng.choice(sorted(CORRUPTIONS))
    change = Corruption(name=name, severity=severity, seed=index)
    return _by_shape(index, _scene(index, difficulty), change=change, tags=(name, f"severity-{severity}"))


def _small_objects(index: int, rng: random.Random, difficulty: int, severity: int) -> Staged:
    scene = _scene(index, difficulty)
    corner = rng.uniform(0, 0.75), rng.uniform(0, 0.75)
    return _by_shape(index, _composed([scene], 4, [corner]), size=504)


SCENARIOS: dict[str, Scenario] = {
    "closed-set": Scenario(
        definition="the eight shapes, in pictures like those of training",
        review="COCO 2017, PASCAL VOC",
        stage=_closed_set,
    ),
    "open-vocabulary": Scenario(
        definition="colour and shape together, asked about the three pairs that training never shows",
        review="LVIS, ODinW, Objects365",
        stage=_open_vocabulary,
    ),
    "domain-shift": Scenario(
        definition="shapes in fog, at night, as watercolour or comic",
        review="Cityscapes to Foggy Cityscapes, Watercolor, Comic, KITTI, Sim10K",
        stage=_domain_shift,
    ),
    "dense": Scenario(
        definition="nine scenes in one picture of 504 pixels: 27 to 54 objects at difficulty 2",
        review="CrowdHuman, OCHuman, WiderPerson",
        stage=_dense,
        scenes=9,
    ),
    "fine-grained": Scenario(
        definition="pattern, colour and shape together, among phrases that are wrong in one of them",
        review="Stanford Dogs, CUB-200-2011, FG-OVD",
        stage=_fine_grained,
    ),
    "few-shot": Scenario(
        definition="a made-up name, shown on two single objects that share nothing but their shape",
        review="not named; its segmentation has PASCAL-5i, COCO-20i, FSS-1000",
        stage=_few_shot,
    ),
    "corruption": Scenario(
        definition="shapes under one of seven corruptions of ImageNet-C, severity 3 by default",
        review="VOC-C, COCO-C, Cityscapes-C",
        stage=_corruption,
    ),
    "small-objects": Scenario(
        definition="one scene at a quarter of its size in a picture of 504 pixels: objects of 15 to 40 pixels",
        review="not named; one of its segmentation scenarios (UAVid, UDD6)",
        stage=_small_objects,
    ),
}
