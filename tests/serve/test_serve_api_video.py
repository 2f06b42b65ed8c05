"""Videos in a chat: frames sampled as asked, in order, as pictures in their place; what is refused."""

from __future__ import annotations

import base64
import io
from typing import Any

import av
import numpy as np
import openai
import pytest
from PIL import Image

from foveate.engine import Engine, EngineConfig, SamplingParameters, VisualBudget
from foveate.media import read_video

RATE = 8
COLOURS = ((255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 0))  # a second of each
QUESTION = {"type": "text", "text": "Is there a circle?"}


@pytest.fixture(scope="module")
def clip() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"
        for colour in COLOURS:
            pixels = np.full((96, 96, 3), colour, np.uint8)
            for _ in range(RATE):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return out.getvalue()


def part(data: bytes, **settings: Any) -> dict[str, Any]:
    url = "data:video/mp4;base64," + base64.b64encode(data).decode()
    return {"type": "video_url", "video_url": {"url": url, **settings}}


def ask(client: openai.OpenAI, *parts: dict[str, Any], **extra: Any) -> Any:
    messages: Any = [{"role": "user", "content": [*parts, QUESTION]}]
    return client.chat.completions.create(
        model="fovea-nano", messages=messages, max_tokens=8, extra_body=extra
    )


@pytest.mark.parametrize(
    ("settings", "frames"), [({"frames_per_second": 1.0}, 4), ({"max_frames": 2}, 2), ({}, 8)]
)
def test_frames_stand_where_the_video_stood(
    client: openai.OpenAI, model: Any, clip: bytes, settings: dict[str, Any], frames: int
) -> None:
    reply = ask(client, part(clip, **settings), visual_budget="25%", foveate_trace=True)
    video = read_video(
        clip,
        frames_per_second=settings.get("frames_per_second", 2.0),
        max_frames=settings.get("max_frames", 8),
    )
    assert len(video) == frames
    pictures = [Image.fromarray(frame) for frame in video.frames]
    [expected] = Engine(model, EngineConfig(kv_blocks=128)).generate(
        [{"role": "user", "content": [{"type": "image"}] * frames + [QUESTION]}],
        SamplingParameters(max_tokens=8),
        images=pictures,
        visual=VisualBudget(budget="25%"),
    )
    assert reply.choices[0].message.content == expected.text
    assert reply.usage.model_extra["image_tokens"] == frames * 144
    looked_at = reply.model_extra["foveate_trace"]["images"]
    assert [(one["width"], one["height"], one["tokens_kept"]) for one in looked_at] == [(96, 96, 36)] * frames


def test_frames_count_as_pictures(client: openai.OpenAI, clip: bytes) -> None:
    with pytest.raises(openai.BadRequestError, match=r"17 pictures, frames of videos among them.*16 at most"):
        ask(client, part(clip, max_frames=17))


def test_what_is_no_video_is_refused_at_its_place(client: openai.OpenAI, picture: str, clip: bytes) -> None:
    still = {"type": "video_url", "video_url": {"url": picture}}
    with pytest.raises(openai.BadRequestError, match="is not a video") as refused:
        ask(client, part(clip, max_frames=1), still)
    assert refused.value.param == "messages[0].content[1]"
    with pytest.raises(openai.BadRequestError):
        ask(client, part(clip[: len(clip) // 2]))
    with pytest.raises(openai.BadRequestError, match="is not an image"):
        url = "data:image/png;base64," + base64.b64encode(clip).decode()
        ask(client, {"type": "image_url", "image_url": {"url": url}})
