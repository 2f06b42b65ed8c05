"""VPBench's semantic correspondence: which of four marked points in a second picture matches the one in the first.

In the embedded form the second picture has the same shapes elsewhere and in other colours, and the match is the shape
that was marked. With `data`, VPBench's own release is read (huggingface.co/datasets/longlian/VPBench,
`BLINK_semantic_data/semantic_correspondence` or `SPair-71k_data/semantic_correspondence`: semantic_corr_raw_fixed.json
beside images/CATEGORY/). The wording is ours; as VPBench's it names the markers' colour and shape.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from foveate.evaluate.contract import BrokenItem, EvaluationError, Item, Picture, TaskCard, user
from foveate.evaluate.embedded import scene_picture, test_scenes
from foveate.evaluate.published import Row, column, data_file, items_from
from foveate.evaluate.tasks import marked_pictures
from foveate.evaluate.tasks.marked_options import MarkedOptions
from foveate.world.marked import second_view, visible_point, with_markers
from foveate.world.render import render
from foveate.world.scene import Scene

_STRETCH = 11
_FILE = "semantic_corr_raw_fixed.json"
_SPLITS = ("val", "test")
_CANDIDATES = 4
_REFERENCE = "REF"
# "0001-2008_001546-2009_003191:aeroplane_img1": number, both pictures' ids, category, and which of the two.
_PAIR = re.compile(r"[^-]+-(?P<first>[^-]+)-(?P<second>[^:]+):(?P<category>[^_]+)(?:_.*)?")
_SHRUNK = 2  # pictures are shown at half of BLINK's size before markers are drawn


class SemanticCorrespondence(MarkedOptions):
    """Four candidates; the answer is the letter of the option that names the match."""

    card: ClassVar = TaskCard(
        title="which of four marked points matches the one in another picture",
        paper="VPBench, arXiv 2512.17875",
        licence="BLINK Apache-2.0; SPair-71k for research only",
        source="hf longlian/VPBench: semantic_corr_raw_fixed.json",
        max_tokens=16,
    )

    def items(self) -> Iterable[Item | BrokenItem]:
        return self._embedded() if self.data is None else self._published(data_file(self.data, [_FILE]))

    def _embedded(self) -> Iterator[Item]:
        made = 0
        for index, scene in test_scenes("shapes", _STRETCH, difficulty=3):
            if made == self.count:
                return
            views = self._two_views(scene, random.Random(index))
            if views is not None:
                made += 1
                first, second, match = views
                name = f"world-{index}"
                pictures = [
                    scene_picture(view, f"{name}-{place}") for place, view in ((1, first), (2, second))
                ]
                yield self._item(name, pictures, match, cluster=name)

    def _two_views(self, scene: Scene, rng: random.Random) -> tuple[Scene, Scene, int] | None:
        """Both marked pictures and the match's place; None where there are not four shapes to tell apart."""
        other = second_view(scene, rng)
        by_shape = {item.shape: item for item in rng.sample(scene.objects, len(scene.objects))}
        if other is None or len(by_shape) < _CANDIDATES:
            return None
        marked = rng.sample(list(by_shape.values()), _CANDIDATES)
        match = rng.randrange(_CANDIDATES)
        reference = visible_point(render(scene), marked[match].id)
        there = render(other)
        points = [(item.id, visible_point(there, item.id)) for item in marked]
        if reference is None or any(point is None for _, point in points):
            return None
        style = self.look.world_style()
        shown = {
            label: (number, point)
            for label, (number, point) in zip(self.look.labels(_CANDIDATES), points, strict=True)
            if point is not None
        }
        first = with_markers(scene, {_REFERENCE: (marked[match].id, reference)}, style)
        return first, with_markers(other, shown, style), match

    def _published(self, path: Path) -> Iterator[Item | BrokenItem]:
        if not path.read_bytes()[:64].lstrip().startswith(b"{"):
            raise EvaluationError(f"{path.name} is not an object with val and test rows")
        for split in _SPLITS:
            for one in items_from(path, partial(self._row, folder=path.parent), key=split):
                yield replace(one, id=f"{split}:{one.id.rpartition(':')[2]}")

    def _row(self, place: str, row: Row, *, folder: Path) -> Item:
        files = [_file_of(row, place, folder / "images") for place in (0, 1)]
        gold, candidates = row.get("gold_point"), row.get("real_consider_points")
        if not isinstance(candidates, list) or len(candidates) != _CANDIDATES:
            raise ValueError(f"real_consider_points is not a list of {_CANDIDATES}")
        reference = marked_pictures.point(_at(row, "src_kps", gold))
        points = [marked_pictures.point(_at(row, "trg_kps", one)) for one in candidates]
        answer = str(column(row, "real_answer")).strip(" ()").upper()
        if len(answer) != 1 or answer not in "ABCD":
            raise ValueError(f"real_answer is {row['real_answer']!r}, not a letter from A to D")
        shown = [
            {_REFERENCE: reference},
            dict(zip(self.look.labels(_CANDIDATES), points, strict=True)),
        ]
        pictures = []
        for number, (file, marks) in enumerate(zip(files, shown, strict=True), start=1):
            width, height = marked_pictures.point(column(row, f"blink_image{number}_size"))
            size = int(width) // _SHRUNK, int(height) // _SHRUNK
            if min(size) < 1:
                raise ValueError(f"blink_image{number}_size is {width:g} x {height:g}")
            load = partial(marked_pictures.open_marked, file, marks, self.look, size)
            pictures.append(Picture(load=load, name=file.name))
        cluster = f"{files[0].stem}-{files[1].stem}"
        return self._item(
            place, pictures, "ABCD".index(answer), cluster=cluster, tags=(files[0].parent.name,)
        )

    def _item(
        self, name: str, pictures: list[Picture], match: int, *, cluster: str, tags: tuple[str, ...] = ()
    ) -> Item:
        look, labels = self.look, self.look.labels(_CANDIDATES)
        question = (
            f"A point of an object in the first picture is marked {_REFERENCE}. In the second picture four points are "
            f"marked with a {look.colour} {look.shape} each, and {', '.join(labels)} stand beside them. Different "
            "objects of one kind have points that correspond: the left ear of one cat and the left ear of another. "
            f"Which of the four points corresponds to {_REFERENCE}?"
        )
        texts = [f"Point {label}" for label in labels]
        asked, target = self._with_options(question, texts, labels, match)
        message = user(*pictures, asked)
        return Item(id=name, messages=(message,), target=target, cluster=cluster, tags=tags, form="choice")


def _file_of(row: Mapping[str, Any], place: int, images: Path) -> Path:
    names = row.get("images")
    if not isinstance(names, list) or len(names) != 2:
        raise ValueError("images is not a list of two")
    found = _PAIR.fullmatch(str(names[place]))
    if found is None:
        raise ValueError(f"the picture {names[place]!r} is not named as SPair-71k's pairs are")
    return images / found["category"] / f"{found['first' if place == 0 else 'second']}.jpg"


def _at(row: Mapping[str, Any], column: str, number: Any) -> Any:
    points = row.get(column)
    if not isinstance(points, list) or type(number) is not int or not 0 <= number < len(points):
        raise ValueError(f"{column} has no point number {number!r}")
    return points[number]
