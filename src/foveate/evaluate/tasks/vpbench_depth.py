"""VPBench's relative depth: which of two marked points is nearer, with the markers drawn when a picture is opened.

The embedded form marks two objects of a scene of which one hides a part of the other. With `data`, VPBench's own
release is read (huggingface.co/datasets/longlian/VPBench, `BLINK_depth_data/depth` or `DA-2K_data/depth`:
perceptioneval_depth_dev.json and _test.json beside images/) or DA-2K's (annotations.json). The wording is ours; as
VPBench's it names the markers' shape, so it changes with the style.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from foveate.evaluate.contract import BrokenItem, Item, Picture, TaskCard, user
from foveate.evaluate.embedded import scene_picture, test_scenes
from foveate.evaluate.published import Row, column, data_file, items_from, read_rows
from foveate.evaluate.tasks import marked_pictures
from foveate.evaluate.tasks.marked_options import MarkedOptions
from foveate.world.marked import overlapping_pair, visible_point, with_markers
from foveate.world.render import render

_STRETCH = 10
_VPBENCH = ("perceptioneval_depth_dev.json", "perceptioneval_depth_test.json")
_DA2K = "annotations.json"


class RelativeDepth(MarkedOptions):
    """Two points, A and B; the answer is the letter of the option that names the nearer one."""

    card: ClassVar = TaskCard(
        title="which of two marked points is nearer",
        paper="VPBench, arXiv 2512.17875",
        licence="BLINK Apache-2.0; DA-2K: see its card",
        source="hf longlian/VPBench: perceptioneval_depth_*.json; hf depth-anything/DA-2K: annotations.json",
        max_tokens=16,
    )

    def items(self) -> Iterable[Item | BrokenItem]:
        if self.data is None:
            return self._embedded()
        chosen = Path(self.data).expanduser()
        if chosen.name == _DA2K or (chosen / _DA2K).is_file():
            return self._da2k(data_file(self.data, [_DA2K]))
        files = [chosen / name for name in _VPBENCH if (chosen / name).is_file()]
        return self._vpbench(files or [data_file(self.data, _VPBENCH)])

    def _embedded(self) -> Iterator[Item]:
        made = 0
        for index, scene in test_scenes("shapes", _STRETCH, difficulty=3):
            if made == self.count:
                return
            pair = overlapping_pair(scene)
            if pair is None:
                continue
            made += 1
            rendering = render(scene)
            marked = list(pair)
            random.Random(index).shuffle(marked)
            points = {}
            for label, one in zip(self.look.labels(2), marked, strict=True):
                point = visible_point(rendering, one.id)
                assert point is not None, "overlapping pairs can be marked"
                points[label] = one.id, point
            shown = with_markers(scene, points, self.look.world_style())
            name = f"world-{index}"
            yield self._item(name, scene_picture(shown, name), marked.index(pair[0]), cluster=name)

    def _vpbench(self, files: Iterable[Path]) -> Iterator[Item | BrokenItem]:
        for path in files:
            yield from items_from(path, partial(self._vpbench_item, folder=path.parent))

    def _vpbench_item(self, place: str, row: Row, *, folder: Path) -> Item:
        file = str(column(row, "original_image"))
        points = [marked_pictures.point(column(row, name)) for name in ("point_A", "point_B")]
        nearer = str(column(row, "human_answer_2")).strip(" ()").upper()
        if nearer not in ("A", "B"):
            raise ValueError(f"human_answer_2 is {nearer!r}, not A or B")
        picture = self._marked(folder / "images" / file, points)
        return self._item(place, picture, "AB".index(nearer), cluster=file)

    def _da2k(self, path: Path) -> Iterator[Item | BrokenItem]:
        for place, row in read_rows(path):
            if isinstance(row, BrokenItem):
                yield row
                continue
            for file, pairs in row.items():
                for number, annotation in enumerate(pairs if isinstance(pairs, list) else [None]):
                    name = f"{place.split(':')[0]}:{file}:{number}"
                    try:
                        yield self._da2k_item(name, file, annotation, path)
                    except ValueError as error:
                        yield BrokenItem(id=name, reason=str(error))

    def _da2k_item(self, name: str, file: str, annotation: Any, path: Path) -> Item:
        if not isinstance(annotation, Mapping):
            raise ValueError("an annotation is an object with point1, point2 and closer_point")
        # Points are (vertical, horizontal), and point1 is always the nearer: letters are dealt by the name's digest.
        first, second = (marked_pictures.point(column(annotation, key))[::-1] for key in ("point1", "point2"))
        if annotation.get("closer_point") not in ("point1", "point2"):
            raise ValueError(f"closer_point is {annotation.get('closer_point')!r}")
        near, far = (first, second) if annotation["closer_point"] == "point1" else (second, first)
        answer = zlib.crc32(name.encode()) % 2
        picture = self._marked(path.parent / file, [far, near] if answer else [near, far])
        scene = re.sub(r"[_\d]+$", "", Path(file).stem)
        return self._item(name, picture, answer, cluster=file, tags=(scene,))

    def _marked(self, file: Path, points: Iterable[tuple[float, float]]) -> Picture:
        by_label = dict(zip(self.look.labels(2), points, strict=True))
        return Picture(load=partial(marked_pictures.open_marked, file, by_label, self.look), name=file.name)

    def _item(
        self, name: str, picture: Picture, nearer: int, *, cluster: str, tags: tuple[str, ...] = ()
    ) -> Item:
        labels = self.look.labels(2)
        question = (
            f"Two points in the picture are marked with a {self.look.shape} each, and {labels[0]} and {labels[1]} "
            f"stand beside the {self.look.shape}s. Which point is closer to the camera?"
        )
        texts = [f"{label} is closer" for label in labels]
        asked, target = self._with_options(question, texts, labels, nearer)
        return Item(
            id=name,
            messages=(user(picture, asked),),
            target=target,
            cluster=cluster,
            tags=tags,
            form="choice",
        )
