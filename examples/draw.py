"""Draws the pictures in this folder: four from the world's test split, one by hand in a style it never renders.

Run from the repository: python examples/draw.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from foveate.world import render, sample_scene

FOLDER = Path(__file__).parent
# name: (domain, index, height in pixels). The test split shares no seed with training.
SCENES = {
    "shapes": ("shapes", 900_016, 336),
    "markers": ("shapes", 900_018, 336),
    "words": ("page", 900_001, 336),
    "chart": ("page", 900_011, 336),
    "table": ("page", 900_008, 336),
}


def hand_drawn() -> Image.Image:
    """A sheet with thick outlines and hatching on white, unlike anything in `foveate.world`."""
    sheet = Image.new("RGB", (480, 360), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    draw.ellipse((40, 40, 160, 160), fill=(235, 60, 50), outline=(0, 0, 0), width=6)
    draw.polygon([(330, 30), (430, 170), (230, 170)], fill=(70, 170, 90), outline=(0, 0, 0), width=6)
    draw.rectangle((70, 220, 190, 330), fill=(60, 100, 220), outline=(0, 0, 0), width=6)
    for offset in range(0, 120, 14):  # crayon-like strokes over the square
        draw.line((70 + offset, 220, 70, 220 + offset), fill=(120, 150, 240), width=3)
    draw.ellipse((300, 230, 400, 330), outline=(240, 200, 30), width=18)
    return sheet


def main() -> None:
    for name, (domain, index, size) in SCENES.items():
        picture = render(sample_scene(domain, "test", index), size)
        Image.fromarray(picture.rgb).save(FOLDER / f"{name}.png", optimize=True)
    hand_drawn().save(FOLDER / "hand_drawn.png", optimize=True)


if __name__ == "__main__":
    main()
