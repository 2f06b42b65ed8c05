"""Makes events.mp4 in this folder: a minute of one of the world's moving scenes, for `foveate stream`.

Run from the repository: python examples/make_events.py
"""

from __future__ import annotations

from pathlib import Path

import av

from foveate.world import render
from foveate.world.moving import sample_moving

TARGET = Path(__file__).parent / "events.mp4"
SECONDS, SIZE, INDEX = 60, 168, 7


def main(target: Path = TARGET, seconds: int = SECONDS) -> None:
    # The test split shares no seed with training.
    scene = sample_moving("test", INDEX, seconds=SECONDS)
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18", "preset": "slow"}
        for second in range(seconds):
            frame = av.VideoFrame.from_ndarray(render(scene.at(second), SIZE).rgb, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


if __name__ == "__main__":
    main()
