"""Points that can be marked in a scene, and what is true of them: which is nearer, which one another view has too.

Scenes are flat, so depth shows in one way only: a nearer object hides a part of a farther one. Pairs are chosen where
it does. Owns the choice of points and the second view; markers are drawn by `render`.
"""

from __future__ import annotations

import dataclasses
import random
from itertools import permutations

import numpy as np

from foveate.world.render import Rendering, render
from foveate.world.scene import Marker, MarkerStyle, Scene, SceneObject
from foveate.world.vocabulary import COLOURS

_SIZE = 168  # pixels at which points are chosen; the default at which pictures are drawn
_HIDDEN = (0.06, 0.6)  # share of the farther object that the nearer one hides: seen, and enough left to mark
_NEAR_ENOUGH = 0.9  # of the sum of the radii: farther apart nothing much can be hidden
_DEEPEST = 3  # pixels from a marked point to the edge of its object, at least


def visible_point(rendering: Rendering, object_id: int) -> tuple[float, float] | None:
    """The point of an object that lies deepest inside what is seen of it, in scene units; None where that is thin.

    A ring's middle shows the ground, so a centre will not do.
    """
    inside = np.pad(rendering.mask(object_id), 1)
    depth, kept = 0, inside
    while inside.any():
        depth, kept = depth + 1, inside
        inside = (
            inside[1:-1, 1:-1] & inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
        )
        inside = np.pad(inside, 1)
    if depth < _DEEPEST:
        return None
    ys, xs = np.nonzero(kept[1:-1, 1:-1])
    nearest = int(np.argmin((xs - xs.mean()) ** 2 + (ys - ys.mean()) ** 2))
    height = rendering.ids.shape[0]
    return (float(xs[nearest]) + 0.5) / height, (float(ys[nearest]) + 0.5) / height


def with_markers(
    scene: Scene, points: dict[str, tuple[int, tuple[float, float]]], style: MarkerStyle
) -> Scene:
    """The scene with these markers alone, for each label the object's id and the point, and no other letters."""
    return dataclasses.replace(
        scene,
        objects=tuple(dataclasses.replace(o, text="") for o in scene.objects),
        markers=tuple(
            Marker(label=label, x=x, y=y, object_id=object_id)
            for label, (object_id, (x, y)) in points.items()
        ),
        marker_style=style,
    )


def overlapping_pair(scene: Scene) -> tuple[SceneObject, SceneObject] | None:
    """(nearer, farther) of two objects, where the nearer one plainly hides a part of the farther; None without any.

    Both have a visible point to mark. Of several pairs the one that hides most is taken; two of one colour are not,
    for their common edge would be hard to see.
    """
    pairs = [
        (near, far)
        for near, far in permutations(scene.objects, 2)
        if near.depth < far.depth
        and near.colour != far.colour
        and near.distance(far) < _NEAR_ENOUGH * (near.radius + far.radius)
    ]
    if not pairs:
        return None
    rendering = render(scene, _SIZE)
    whole = {
        far.id: render(dataclasses.replace(scene, objects=(far,)), _SIZE).mask(far.id) for _, far in pairs
    }
    hidden = [float(rendering.mask(near.id)[whole[far.id]].mean()) for near, far in pairs]
    most = int(np.argmax(hidden))
    if not _HIDDEN[0] <= hidden[most] <= _HIDDEN[1]:
        return None
    if any(visible_point(rendering, item.id) is None for item in pairs[most]):
        return None
    return pairs[most]


def second_view(scene: Scene, rng: random.Random) -> Scene | None:
    """The same shapes elsewhere and in other colours: objects of a size change places, and none keeps its colour.

    None where fewer than two objects share a size, so that nothing could move.
    """
    moved: dict[int, SceneObject] = {}
    for size in {o.size: None for o in scene.objects}:
        members = [o for o in scene.objects if o.size == size]
        shift = rng.randrange(1, len(members)) if len(members) > 1 else 0
        for place, item in enumerate(members):
            there = members[(place + shift) % len(members)]
            colour = rng.choice([name for name in COLOURS if name != item.colour])
            moved[item.id] = dataclasses.replace(
                item, x=scene.aspect - there.x, y=there.y, colour=colour, shade=COLOURS[colour], text=""
            )
    if all(moved[o.id].y == o.y for o in scene.objects):
        return None
    ground = dataclasses.replace(scene.background, seed=rng.randrange(48))
    return dataclasses.replace(
        scene, objects=tuple(moved[o.id] for o in scene.objects), background=ground, markers=()
    )
