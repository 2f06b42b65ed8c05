"""Videos in a chat: a video where the model reads them, else its frames as pictures in its place; what is refused."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import openai
import pytest
import tiny
from live_server import LiveServer, live_server
from PIL import Image

from foveate.engine import Engine, EngineConfig, SamplingParameters, VisualBudget
from foveate.media import read_video
from foveate.models import load

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
    # The trace says that these are frames, and of what.
    assert {one["frame_of"] for one in looked_at} == {f"video 1: video in memory ({len(clip):,} bytes)"}
    assert all(one["frames"] == 1 and one["times"] == [] for one in looked_at)


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


@pytest.fixture(scope="module")
def watcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveServer, Any]]:
    """A server of a tiny model that reads videos."""
    model = load(tiny.build_tiny("qwen2_5_vl", tmp_path_factory.mktemp("video") / "tiny"), device="cpu")
    with live_server(model, max_images=2, max_video_frames=20) as live:
        yield live, model


def test_a_video_is_a_video_where_the_model_reads_them(
    watcher: tuple[LiveServer, Any], clip: bytes, picture: str
) -> None:
    server, model = watcher
    content = [
        part(clip, frames_per_second=4.0, max_frames=16),
        {"type": "image_url", "image_url": {"url": picture}},
    ]
    messages = [{"role": "user", "content": [*content, QUESTION]}]
    video = read_video(clip, frames_per_second=4.0, max_frames=16)
    still = base64.b64decode(picture.partition(",")[2])
    parts = [{"type": "video", "video": video}, {"type": "image", "image": still}, QUESTION]
    prompt = model.prepare([{"role": "user", "content": parts}])
    expected = model.generate(prompt, max_new_tokens=6)
    reply = server.chat(messages, max_tokens=6, foveate_trace=True, temperature=0).json()
    assert reply["choices"][0]["message"]["content"] == "".join(token.text for token in expected)
    seen, beside = reply["foveate_trace"]["images"]
    assert (seen["frames"], seen["width"], seen["frame_of"], beside["times"]) == (8, 96, None, [])
    assert seen["times"] == [0.5 * step for step in range(8)], "pairs of frames, four a second"
    assert seen["digest"] == video.digest and len(seen["tiles"]) == 8
    assert seen["tokens"] == prompt.media[0].grid.tokens
    assert reply["usage"]["image_tokens"] == sum(item.grid.tokens for item in prompt.media)
    # Half of it, chosen over all frames together; and again, from the caches.
    for cached in (False, True):
        body = {"visual_budget": "50%", "reducer": "vidcom2", "foveate_trace": True, "temperature": 0}
        less = server.chat(messages, max_tokens=6, **body).json()
        told = less["foveate_trace"]["images"][0]
        assert told["tokens_kept"] == told["tokens"] // 2 == sum(len(tile["kept"]) for tile in told["tiles"])
        assert (less["usage"]["prompt_tokens_details"]["cached_tokens"] > 0) == cached
    assert server.chat(messages, max_tokens=6, visual_budget=2, reducer="downsample").status_code == 400
    counted = server.post("/tokenize", messages=messages).json()
    assert counted["tokens"] == prompt.token_ids


def test_frames_have_a_limit_of_their_own(watcher: tuple[LiveServer, Any], clip: bytes) -> None:
    server, _ = watcher
    many = [{"role": "user", "content": [part(clip, max_frames=12), part(clip, max_frames=12), QUESTION]}]
    told = server.chat(many).json()["error"]
    assert told["code"] == "too_many_frames" and "24 frames" in told["message"] and "20" in told["message"]
    few = [{"role": "user", "content": [part(clip, max_frames=9), part(clip, max_frames=3), QUESTION]}]
    assert server.chat(few, max_tokens=2).status_code == 200
