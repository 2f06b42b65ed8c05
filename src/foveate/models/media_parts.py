"""The images and videos that a conversation names: opened, laid out, turned into pixels.

Owns the choice between the two kinds, and what a family that reads no videos is shown instead. Knows no templates and
no tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from foveate.errors import PromptError
from foveate.media import Image, Video, open_image, read_video
from foveate.models.records import VisualGrid
from foveate.models.video import VideoModel

if TYPE_CHECKING:
    import torch

    from foveate.models.base import VisionLanguageModel


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where an image or video part has its content from.

    Attributes:
        kind: "image" or "video".
        value: what `open_image` or `read_video` takes, or an `Image` or `Video`.
        sampling: of a video, what the part says of its frames.
        video: of a picture that is a frame of a video, the name of that.
    """

    kind: str
    value: Any
    sampling: Mapping[str, Any] = field(default_factory=dict)
    video: str = ""


def open_source(source: Source) -> Image | Video:
    """The image or video, decoded.

    Raises:
        MediaError: it cannot be opened.
        MissingExtraError: a video, and PyAV is not installed.
        PromptError: frames are asked for of a `Video`, whose frames are chosen already.
    """
    if source.kind == "image":
        return open_image(source.value)
    if not isinstance(source.value, Video):
        return read_video(source.value, **source.sampling)
    if source.sampling:
        raise PromptError(
            f"The part of {source.value.source} asks for {', '.join(source.sampling)}",
            why="it is a Video, whose frames are chosen already",
            fix="Leave that out, or give the file.",
        )
    return source.value


def grid_of(model: VisionLanguageModel, medium: Image | Video, images_in_prompt: int) -> VisualGrid:
    """What it becomes before the model; a video only where the model reads them."""
    if isinstance(medium, Video):
        assert isinstance(model, VideoModel)
        return model.video_grid(medium.width, medium.height, medium.moments.tolist())
    return model.visual_grid(medium.width, medium.height, images_in_prompt=images_in_prompt)


def tokens_of(model: VisionLanguageModel, medium: Image | Video, other_images: int) -> int:
    """Visual tokens that it adds to a prompt with so many other images, as a video or as pictures."""
    if isinstance(medium, Video) and not model.accepts_videos:
        count = len(medium)
        frame = model.visual_grid(medium.width, medium.height, images_in_prompt=other_images + count)
        return count * frame.tokens
    return grid_of(model, medium, other_images + 1).tokens


def pixels_of(
    model: VisionLanguageModel, medium: Image | Video, grid: VisualGrid, images_in_prompt: int
) -> dict[str, torch.Tensor]:
    """The tensors of a `PreparedMedia`; those of what was asked about lately are kept."""

    def process() -> dict[str, torch.Tensor]:
        if isinstance(medium, Video):
            assert isinstance(model, VideoModel)
            return model.process_frames(medium.frames, grid)
        return model.process_pixels(medium.pil(), images_in_prompt=images_in_prompt)

    # The number of images decides how some families tile; the processor's settings are the checkpoint's.
    return model.pixels.get((medium.digest, 0 if grid.is_video else images_in_prompt), process)


def frames_as_pictures(
    messages: Sequence[Mapping[str, Any]], sources: Sequence[Source], opened: Sequence[Image | Video]
) -> tuple[list[dict[str, Any]], list[Source], list[Image | Video]]:
    """The same conversation with every frame of a video as a picture of its own, in order."""
    by_part: list[list[tuple[Source, Image | Video]]] = []
    count = 0
    for source, medium in zip(sources, opened, strict=True):
        if isinstance(medium, Video):
            count += 1
            frame_of = Source(kind="image", value=None, video=f"video {count}: {medium.source}")
            frames = zip(medium.frames, medium.moments.tolist(), strict=True)
            by_part.append(
                [
                    (frame_of, replace(open_image(frame), source=f"{medium.source} at {moment:.2f} s"))
                    for frame, moment in frames
                ]
            )
        else:
            by_part.append([(source, medium)])
    waiting = iter(by_part)
    normal: list[dict[str, Any]] = []
    for message in messages:
        parts: list[Mapping[str, Any]] = []
        for part in message["content"]:
            parts += [part] if part["type"] == "text" else [{"type": "image"} for _ in next(waiting)]
        normal.append({**message, "content": parts})
    flat = [pair for pairs in by_part for pair in pairs]
    return normal, [source for source, _ in flat], [medium for _, medium in flat]
