"""Videos on their way into a prompt: the forms of a part, settings, templates, families without videos, refusals."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from PIL import Image
from reference_video import ask, clip, moving

from foveate.errors import ContextLengthError, MediaError, PromptError
from foveate.media import read_video
from foveate.models import load


def test_settings_for_videos_are_read_where_they_are_written(tiny_folder: Callable, tmp_path: Path) -> None:
    """A file of their own, or one for all processors; budgets of one frame and of all together."""
    written = {
        "size": {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 64},
        "image_mean": [0.1, 0.2, 0.3],
    }
    grids = []
    for name, content in (
        ("video_preprocessor_config.json", written),
        ("processor_config.json", {"video_processor": written}),
        ("video_preprocessor_config.json", {**written, "min_pixels": 28 * 28, "max_pixels": 28 * 28 * 4}),
        ("video_preprocessor_config.json", {**written, "max_video_tokens": 20, "cap_pixels_per_frame": True}),
        (
            "video_preprocessor_config.json",
            {**written, "max_video_tokens": 20},
        ),
    ):
        folder = tmp_path / str(len(grids))
        shutil.copytree(tiny_folder("qwen2_vl"), folder)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
        model = load(folder, device="cpu")
        assert model.frame_settings["image_mean"] == [0.1, 0.2, 0.3]
        grids.append(model.video_grid(28 * 6, 28 * 6, [0.0, 0.5, 1.0, 1.5]))
        assert model.visual_grid(28 * 6, 28 * 6).tokens == 36, "pictures keep their own settings"
    # 20 tokens, of which 9 in 10 are shared: 9 for each of two steps.
    assert [grid.tokens for grid in grids] == [72, 72, 8, 18, 72]


@pytest.mark.parametrize("family", ["llava", "llava_next", "smolvlm", "gemma3"])
def test_other_families_see_the_frames_as_pictures(family: str, pair_of: Callable) -> None:
    model = pair_of(family).ours
    assert not model.accepts_videos and model.videos_are == "frames as pictures"
    video = clip(60, 40, 3, 8)
    prompt = model.prepare(ask("video", "image"), images=[tiny.picture(56, 56, 1)], videos=[video])
    frames = [Image.fromarray(frame) for frame in video.frames]
    parts = ask("image")[0]["content"][:1] * 3 + ask("video", "image")[0]["content"][1:]
    same = model.prepare([{"role": "user", "content": parts}], images=[*frames, tiny.picture(56, 56, 1)])
    assert prompt.token_ids == same.token_ids
    assert [item.digest for item in prompt.media] == [item.digest for item in same.media]
    assert [item.video for item in prompt.media] == ["video 1: frames"] * 3 + [""]
    assert [item.source for item in prompt.media[:2]] == ["frames at 0.00 s", "frames at 0.50 s"]
    assert not any(item.grid.is_video for item in prompt.media)


def test_what_is_refused(pair_of: Callable, tmp_path: Path) -> None:
    model = pair_of("qwen2_vl").ours
    video = clip(56, 56, 2, 1)
    with pytest.raises(PromptError, match="1 videos were given for 2 video parts"):
        model.prepare(ask("video", "video"), videos=[video])
    with pytest.raises(PromptError, match="1 images were given for 0 image parts"):
        model.prepare(ask("video"), videos=[video], images=[tiny.picture(56, 56, 1)])
    with pytest.raises(PromptError, match=r"text contains <\|video_pad\|>"):
        model.prepare(ask("video", text="<|video_pad|>"), videos=[video])
    with pytest.raises(PromptError, match="too narrow"):
        model.prepare(ask("video"), videos=[clip(2, 600, 2, 1)])
    with pytest.raises(MediaError, match=r"no\.mp4"):
        model.prepare([{"role": "user", "content": [{"type": "video", "video": str(tmp_path / "no.mp4")}]}])
    with pytest.raises(ContextLengthError, match=r"fewer frames of videos"):
        model.prepare(ask("video"), videos=[clip(280, 280, 256, 1)])
    with pytest.raises(PromptError, match="text-only model"):
        pair_of("qwen2").ours.prepare(ask("video"), videos=[video])


def test_the_forms_of_a_part(pair_of: Callable, tmp_path: Path) -> None:
    """A path, bytes, a data: URI and a Video are one video; a part says which frames, beside its type or its url."""
    av = pytest.importorskip("av", reason="the extra 'video' is not installed")
    path = tmp_path / "clip.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for pixels in moving(64, 48, 12, 1):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    model, raw = pair_of("qwen2_vl").ours, path.read_bytes()
    uri = "data:video/x-matroska;base64," + base64.b64encode(raw).decode()
    sampling = {"frames_per_second": 1.0, "max_frames": 2}
    video = read_video(path, **sampling)
    assert video.moments.tolist() == [0.0, 2.75]
    parts = [
        {"type": "video", "video": str(path), **sampling},
        {"type": "video", "path": path, **sampling},
        {"type": "video", "video": raw, **sampling},
        {"type": "video_url", "video_url": {"url": uri, **sampling}},
        {"type": "video_url", "video_url": uri, **sampling},
        {"type": "video", "video": video},
    ]
    media = [model.prepare([{"role": "user", "content": [part]}]).media[0] for part in parts]
    assert {item.digest for item in media} == {video.digest}
    assert {item.grid for item in media} == {model.video_grid(64, 48, [0.0, 2.75])}
    with pytest.raises(PromptError, match=r"asks for max_frames: .* frames are chosen already"):
        model.prepare([{"role": "user", "content": [{"type": "video", "video": video, "max_frames": 1}]}])
    with pytest.raises(PromptError, match="of type video_url has no url"):
        model.prepare([{"role": "user", "content": [{"type": "video_url", "video_url": {}}]}])
    with pytest.raises(MediaError, match="frames_per_second is 0"):
        model.prepare([{"role": "user", "content": [{**parts[0], "frames_per_second": 0}]}])


def test_a_template_without_a_place_for_videos_is_named(tiny_folder: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "no-videos"
    shutil.copytree(tiny_folder("qwen2_vl"), folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8").replace("<|video_pad|>", ""), encoding="utf-8")
    with pytest.raises(PromptError, match="placed 0 of 1 videos"):
        load(folder, device="cpu").prepare(ask("video"), videos=[clip(56, 56, 2, 1)])


def test_processed_frames_are_kept(pair_of: Callable) -> None:
    model = pair_of("qwen2_vl").ours
    video = clip(84, 84, 4, 31)
    before = model.pixels.hits
    first, again = (model.prepare(ask("video"), videos=[video]).media[0] for _ in range(2))
    assert model.pixels.hits == before + 1
    assert first.tensors["pixel_values"] is again.tensors["pixel_values"]


def test_a_template_of_qwen3_that_marks_no_video(tiny_folder: Callable, tmp_path: Path) -> None:
    """The steps bring their own marks, whether the template writes some or not."""
    folder = tmp_path / "unmarked"
    shutil.copytree(tiny_folder("qwen3_vl"), folder)
    template = folder / "chat_template.jinja"
    marked = template.read_text(encoding="utf-8")
    template.write_text(
        marked.replace("<|vision_start|><|video_pad|><|vision_end|>", "<|video_pad|>"), encoding="utf-8"
    )
    ids = [
        load(one, device="cpu").prepare(ask("video"), videos=[clip(112, 56, 4, 1)]).token_ids
        for one in (tiny_folder("qwen3_vl"), folder)
    ]
    assert ids[0] == ids[1]
