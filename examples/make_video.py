"""Makes moving.mp4 in this folder: a few of the world's moving scenes, one after the other.

Run from the repository: python examples/make_video.py
"""

from __future__ import annotations

from pathlib import Path

import av

from foveate.world import render_frames, sample_scene

TARGET = Path(__file__).parent / "moving.mp4"
SCENES, SECONDS, FRAMES_PER_SECOND, SIZE = 4, 4.0, 8, 168


def main(target: Path = TARGET, scenes: int = SCENES) -> None:
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "24", "preset": "slow"}
        for number in range(scenes):
            # The test split shares no seed with training.
            scene = sample_scene("shapes", "test", 910_000 + number)
            frames = render_frames(scene, size=SIZE, seconds=SECONDS, frames_per_second=FRAMES_PER_SECOND)
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.rgb, format="rgb24")))
        container.mux(stream.encode())


if __name__ == "__main__":
    main()
