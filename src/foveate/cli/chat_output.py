"""What `foveate chat` tells of pictures, videos and answers: lines, the object of `--json`, pictures of what was kept.

Owns their form. Does not ask anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.cli.conversation import Answer, Conversation
from foveate.cli.terminal import count
from foveate.errors import FoveateError

if TYPE_CHECKING:
    from foveate.engine import Engine
    from foveate.media import Image, Video
    from foveate.models import VisionLanguageModel


def described(medium: Image | Video, model: VisionLanguageModel) -> str:
    """One picture or video in words: which, how large, and of a video how much of it is looked at, and as what."""
    from foveate.media import Video

    size = f"{medium.width}×{medium.height}"
    if not isinstance(medium, Video):
        return f"picture {medium.source}: {size}"
    frames = count(len(medium.frames), "frame")
    looked_at = (
        f"video {medium.source}: {frames} of {medium.total_frames:,} over {medium.duration:.1f} s, {size}"
    )
    return looked_at if model.accepts_videos else f"{looked_at}, as pictures"


def refuse_overlays(media: Sequence[Image | Video]) -> None:
    """Refuses to draw over videos.

    Raises:
        FoveateError: one of them is a video.
    """
    from foveate.media import Video

    if any(isinstance(one, Video) for one in media):
        raise FoveateError(
            "What the model saw of a video is not drawn",
            why="--show writes one picture for each picture",
            fix="Leave --show out.",
        )


def write_overlays(conversation: Conversation, answer: Answer) -> list[Path]:
    """A picture of each picture's kept tokens, in the current folder; their paths."""
    from foveate.media import Image
    from foveate.reduce import KeepMap
    from foveate.reduce.overlay import draw_overlay

    refuse_overlays(conversation.images)
    cropped = bool(getattr(conversation.model.image_processor, "do_center_crop", False))
    paths: list[Path] = []
    images = [image for image in conversation.images if isinstance(image, Image)]
    for number, (image, total, keep) in enumerate(
        zip(images, answer.image_tokens, answer.keep_maps, strict=True), start=1
    ):
        grid = conversation.model.visual_grid(image.width, image.height, images_in_prompt=len(images))
        assert grid.tokens == total
        path = _overlay_path(image.source, number)
        whole = KeepMap.full(grid, method="no reducer")
        draw_overlay(image.pil(), keep or whole, cropped=cropped).save(path)
        paths.append(path)
    return paths


def _overlay_path(source: str, number: int) -> Path:
    """`cat-kept.png` for `photos/cat.jpg`; `picture-2-kept.png` for one without a file's name.

    The source is a name for messages: of a long path the middle is left out.
    """
    named = Path(source)
    is_name = named.suffix[1:].isalnum() and "…" not in named.name and not source.startswith("data:")
    return Path(f"{named.stem if is_name else f'picture-{number}'}-kept.png")


def as_object(
    conversation: Conversation,
    question: str,
    answer: Answer,
    load_seconds: float,
    overlays: Sequence[Path] = (),
) -> dict[str, Any]:
    """The object that `--json` prints; times in seconds."""
    return {
        "model": conversation.model.ref,
        "question": question,
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "usage": {
            "prompt_tokens": answer.prompt_tokens,
            "cached_tokens": answer.cached_tokens,
            "completion_tokens": answer.completion_tokens,
            "image_tokens": sum(answer.image_tokens),
            "image_tokens_kept": sum(answer.kept_tokens),
        },
        "timings": {
            "load": load_seconds,
            "prepare": answer.prepare,
            "encode": answer.encode,
            "prefill": answer.prefill,
            "decode": answer.decode,
            "first_token": answer.first_token,
            "total": answer.total,
            "tokens_per_second": answer.tokens_per_second,
        },
        "speculation": None if answer.speculation is None else dataclasses.asdict(answer.speculation),
        "engine": engine_facts(conversation.engine),
        "images": [
            {
                "source": item.source,
                "width": item.width,
                "height": item.height,
                "digest": item.digest,
                "frames": item.grid.frames,
                "times": list(item.grid.times),
                "frame_of": item.video or None,
                "tokens": tokens,
                "tokens_kept": kept,
                "reason": "nothing is dropped" if keep is None else keep.reason,
            }
            for item, tokens, kept, keep in zip(
                answer.media, answer.image_tokens, answer.kept_tokens, answer.keep_maps, strict=True
            )
        ],
        "overlays": [str(path) for path in overlays],
    }


def engine_facts(engine: Engine) -> dict[str, Any]:
    """How the engine works here: sizes of its caches, and the reasons that `describe` gives."""
    plan = engine.memory
    return {
        "kv_tokens": plan.kv_blocks * engine.config.block_size,
        "kv_bytes": plan.kv_blocks * plan.block_bytes,
        "encoder_bytes": plan.encoder_bytes,
        "memory": list(plan.reasons),
        "weights": engine.weights_reason,
        "attention": engine.attention_reason,
    }
