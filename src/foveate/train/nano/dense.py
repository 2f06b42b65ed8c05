"""Dense labels for the vision tower: what lies under each patch, and what the whole picture holds.

Trained from questions alone a tower this small does not leave chance; labels under every patch teach it to see
first. Pure NumPy on the world's exact truth.
"""

from __future__ import annotations

import numpy as np

from foveate.world import Example
from foveate.world.vocabulary import COLOURS, SHAPES, SIZES, TEXTURES

CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_COLOUR_INDEX = {name: i for i, name in enumerate(COLOURS)}
_SHAPE_INDEX = {name: i for i, name in enumerate(SHAPES)}
CLASS_WORDS: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "texture": TEXTURES,
    "size": SIZES,
    "character": tuple(CHARACTERS),
}
# Class 0 is always "nothing here".
CLASS_COUNTS = {name: len(words) + 1 for name, words in CLASS_WORDS.items()}
# CLS answers: each (colour, shape) present, each character present, and the number of objects as a scale.
SCENE_LABELS = len(COLOURS) * len(SHAPES) + len(CHARACTERS) + 10

_PROBES = ((0.5, 0.5), (0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8))


def patch_objects(example: Example, grid: int) -> np.ndarray:
    """[grid, grid] ids of the object under each patch, at its centre or else nearby; -1 for none."""
    ids = example.rendering.ids
    height, width = ids.shape
    seen = np.full((grid, grid), -1)
    for across, down in reversed(_PROBES):  # the centre is probed last, so it wins
        rows = ((np.arange(grid) + down) / grid * height).astype(int)
        columns = ((np.arange(grid) + across) / grid * width).astype(int)
        probe = ids[np.ix_(rows, columns)]
        seen = np.where(probe >= 0, probe, seen)
    return seen


def patch_labels(example: Example, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of each of the grid x grid patches.

    Returns:
        [5, grid, grid] int64 class ids in the order of CLASS_COUNTS, and [2, grid, grid] float32 vectors from the
        patch's centre to its object's centre in thirds of a patch (NaN where there is no object).
    """
    seen = patch_objects(example, grid)
    table = np.zeros((max((o.id for o in example.scene.objects), default=-1) + 2, 4), dtype=np.int64)
    centres = np.full((len(table), 2), np.nan, dtype=np.float32)
    for item in example.scene.objects:
        kinds = (
            _COLOUR_INDEX[item.colour],
            _SHAPE_INDEX[item.shape],
            TEXTURES.index(item.texture),
            SIZES.index(item.size),
        )
        table[item.id] = np.array(kinds) + 1
        centres[item.id] = item.x / example.scene.aspect * grid, item.y * grid
    labels = np.concatenate([table[seen].transpose(2, 0, 1), _characters(example, grid)[None]])
    middle = np.arange(grid, dtype=np.float32) + 0.5
    offsets = centres[seen].transpose(2, 0, 1) - np.stack(np.meshgrid(middle, middle))
    return labels, (offsets / 3).astype(np.float32)


def _characters(example: Example, grid: int) -> np.ndarray:
    """[grid, grid]: the character that covers most of each patch, by its box."""
    labels = np.zeros((grid, grid), dtype=np.int64)
    best = np.zeros((grid, grid))
    height, width = example.rendering.ids.shape
    for glyph in example.rendering.glyphs:
        if glyph.character not in CHARACTERS:
            continue
        left, right = (x / width * grid for x in (glyph.box[0], glyph.box[2]))
        top, bottom = (y / height * grid for y in (glyph.box[1], glyph.box[3]))
        for row in range(max(0, int(top)), min(grid, int(bottom) + 1)):
            for column in range(max(0, int(left)), min(grid, int(right) + 1)):
                area = (min(bottom, row + 1) - max(top, row)) * (min(right, column + 1) - max(left, column))
                if area > max(best[row, column], 0.12):
                    best[row, column] = area
                    labels[row, column] = CHARACTERS.index(glyph.character) + 1
    return labels


def scene_labels(example: Example) -> np.ndarray:
    """[SCENE_LABELS] float32 in {0, 1} for the CLS token."""
    labels = np.zeros(SCENE_LABELS, dtype=np.float32)
    for item in example.scene.objects:
        labels[_COLOUR_INDEX[item.colour] * len(SHAPES) + _SHAPE_INDEX[item.shape]] = 1
    base = len(COLOURS) * len(SHAPES)
    for glyph in example.rendering.glyphs:
        if glyph.character in CHARACTERS:
            labels[base + CHARACTERS.index(glyph.character)] = 1
    labels[base + len(CHARACTERS) :][: len(example.scene.objects)] = 1
    return labels
