"""Questions about the world's moving scenes, exact from positions and velocities: where to, how often back, what first.

Owns the kinds of questions. Knows no frames and no replies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from foveate.world import Scene, SceneObject
from foveate.world.asking import Asker

SECONDS = 2.0  # of a moving scene
_CLEAR = 0.12  # of the picture's height: a shorter way is no direction
_APART = 0.3  # seconds between two events whose order is asked
_MOST_BOUNCES = 5
MotionQuestion = tuple[str, str, tuple[str, ...]]  # text, answer, choices


def _direction(q: Asker) -> MotionQuestion | None:
    """Left, right, up or down, of an object that keeps clearly to one of them."""
    found = q.named()
    if found is None:
        return None
    item, name = found
    if bounces(item, q.scene):
        return None
    across, down = (SECONDS * speed for speed in item.velocity)
    if max(abs(across), abs(down)) < _CLEAR or not (
        abs(across) > 2 * abs(down) or abs(down) > 2 * abs(across)
    ):
        return None
    sideways = "right" if across > 0 else "left"
    answer = sideways if abs(across) > abs(down) else "down" if down > 0 else "up"
    return f"Does the {name} move left, right, up or down?", answer, ("left", "right", "up", "down")


def _count(q: Asker) -> MotionQuestion | None:
    """How often an object turns back; none of its turns lies at the very start or end, where it cannot be seen."""
    found = q.named()
    if found is None:
        return None
    item, name = found
    times = bounces(item, q.scene)
    margin = 0.15 * SECONDS
    if len(times) > _MOST_BOUNCES or any(not margin < time < SECONDS - margin for time in times):
        return None
    if not times and q.rng.random() < 0.6:  # most objects never turn: flatten the answers
        return None
    choices = tuple(str(number) for number in range(_MOST_BOUNCES + 1))
    return f"How many times does the {name} turn back at an edge of the picture?", str(len(times)), choices


def _first(q: Asker) -> MotionQuestion | None:
    """Which of two objects is at an edge first, the other one later or never."""
    pair = q.two_named()
    if pair is None:
        return None
    first, first_name, second, second_name = pair
    one, other = ((*bounces(item, q.scene), 2 * SECONDS)[0] for item in (first, second))
    if min(one, other) >= SECONDS or abs(one - other) < _APART or first_name in second_name:
        return None
    answer = first_name if one < other else second_name
    text = f"Which reaches an edge of the picture first, the {first_name} or the {second_name}?"
    return text, answer, (first_name, second_name)


KINDS: dict[str, Callable[[Asker], MotionQuestion | None]] = {
    "direction": _direction,
    "turns": _count,
    "first": _first,
}


def bounces(item: SceneObject, scene: Scene) -> Sequence[float]:
    """The seconds at which the object meets an edge, in order."""
    times = []
    for position, speed, extent in zip((item.x, item.y), item.velocity, (scene.aspect, 1.0), strict=True):
        low, high = item.radius, extent - item.radius
        if speed == 0 or high <= low:
            continue
        time = ((high if speed > 0 else low) - position) / speed
        while time <= SECONDS:
            times.append(max(0.0, time))
            time += (high - low) / abs(speed)
    return sorted(times)
