"""A seedable procedural world with exact truth: scenes, renderers, questions and data sets.

Owns what is in a picture and what may be asked about it. Knows no model and no torch: everything here is
Pillow, NumPy and the standard library, so that data can be made on any machine.
"""

from foveate.world.asking import Question
from foveate.world.dataset import Example, make_example, write_dataset
from foveate.world.questions import FAMILIES, ask, chance
from foveate.world.render import Rendering, render, render_frames
from foveate.world.sampling import SPLITS, sample_scene
from foveate.world.scene import BarChart, Marker, MarkerStyle, Scene, SceneObject, Table, TextBlock
from foveate.world.svg import to_svg

__all__ = [
    "FAMILIES",
    "SPLITS",
    "BarChart",
    "Example",
    "Marker",
    "MarkerStyle",
    "Question",
    "Rendering",
    "Scene",
    "SceneObject",
    "Table",
    "TextBlock",
    "ask",
    "chance",
    "make_example",
    "render",
    "render_frames",
    "sample_scene",
    "to_svg",
    "write_dataset",
]
