"""Scenes of the world for tasks that ask without a data set: which test pictures a task has, and pictures from scenes.

Owns the stretches of the test split that keep tasks apart from each other, from `bench` and from `eval-nano`. Knows
no task and no model.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import partial

from PIL import Image

from foveate.evaluate.contract import Picture
from foveate.world import Question, Scene, ask, render, sample_scene

FIRST, STRETCH = 3_000_000, 50_000


def test_scenes(domain: str, stretch: int, *, difficulty: int = 2) -> Iterator[tuple[int, Scene]]:
    """Test scenes of one stretch with their index, in order.

    Args:
        stretch: from 0; each task has its own, so that no two ask about the same picture.
    """
    first = FIRST + STRETCH * stretch
    for index in range(first, first + STRETCH):
        yield index, sample_scene(domain, "test", index, difficulty=difficulty)


def scene_picture(scene: Scene, name: str, *, size: int = 168) -> Picture:
    """The scene as an item's picture, `size` pixels high, drawn only when it is asked about."""
    return Picture(load=partial(_draw, scene, size), name=name)


def _draw(scene: Scene, size: int) -> Image.Image:
    return Image.fromarray(render(scene, size).rgb)


def asked_scenes(
    domain: str, families: Sequence[str], stretch: int, *, difficulty: int = 2
) -> Iterator[tuple[int, Scene, Question]]:
    """Test scenes with one question each, the families in turn; scenes that do not allow theirs are passed over."""
    made = 0
    for index, scene in test_scenes(domain, stretch, difficulty=difficulty):
        question = ask(scene, families[made % len(families)], random.Random(f"asked {stretch} {index}"))
        if question is not None:
            made += 1
            yield index, scene, question
