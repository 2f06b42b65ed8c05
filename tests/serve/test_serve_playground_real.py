"""The playground in a real browser on a real server with the embedded model: from a picture to an export.

With FOVEATE_SCREENSHOTS=1 the screenshots of docs/playground.md are written anew; else they go to a temporary folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live_server import PICTURE, LiveServer
from PIL import Image
from playground_steps import ask, finished, ready

pytest_plugins = ("playground_page",)
DOCS = Path(__file__).parents[2] / "docs" / "images"
MOST_BYTES = 200_000
SCENES = {"light": "#scene=43.2&budget=10%25&compare=1", "dark": "#scene=42.2&budget=25%25&compare=1"}


@pytest.fixture
def shoot(tmp_path: Path) -> Callable[..., None]:
    """Takes a screenshot, few enough colours for the repository."""
    folder = DOCS if os.environ.get("FOVEATE_SCREENSHOTS") else tmp_path

    def take(page: Any, name: str, **settings: Any) -> None:
        path = folder / f"playground-{name}.png"
        page.screenshot(path=tmp_path / path.name, **settings)
        with Image.open(tmp_path / path.name) as picture:
            few = picture.convert("RGB").quantize(256, kmeans=1, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
        assert 10_000 < path.stat().st_size < MOST_BYTES

    return take


def test_from_picture_to_export(
    server: LiveServer, open_page: Callable[..., Any], shoot: Callable[..., None]
) -> None:
    page = ready(open_page(server.url))
    page.set_input_files("#file", str(PICTURE))
    page.wait_for_function(
        "() => document.querySelector('#view-shown .view-title').textContent === 'shapes.png'"
    )
    ask(page, "How many objects are there?")
    direct = server.chat(
        [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": _uri(PICTURE)}},
                    {"type": "text", "text": "How many objects are there?"},
                ],
            }
        ],
        temperature=0,
    ).json()
    assert page.inner_text(".answer") == direct["choices"][0]["message"]["content"]
    assert page.inner_text("#view-shown .view-count") == "144 of 144 tokens (100 %)"
    page.check("#compare")
    page.fill("#budget", "25")
    page.wait_for_selector(".run >> nth=1")
    finished(page)
    assert page.inner_text("#view-shown .view-count") == "36 of 144 tokens (25 %)"
    assert "36 instead of 144 visual tokens" in page.inner_text("#comparison")
    page.focus("#view-shown canvas")
    page.keyboard.press("ArrowRight")
    assert "rank" in page.inner_text("#view-shown .view-readout")
    page.select_option("#reducer", "divprune")
    page.wait_for_selector(".run >> nth=2")
    finished(page)
    assert page.inner_text("#view-shown .view-title") == "25 % by divprune"
    with page.expect_download() as download:
        page.click("#export-json")
    runs = json.loads(download.value.path().read_text(encoding="utf-8"))["conversation"]["turns"][0]["runs"]
    assert [run["usage"]["image_tokens_kept"] for run in runs] == [144, 36, 36]
    assert all(run["trace"]["times"]["total"] > 0 for run in runs)
    with page.expect_download() as download:
        page.click("#export-png")
    with Image.open(download.value.path()) as picture:
        assert picture.width > 1100


@pytest.mark.parametrize("look", ["light", "dark"])
def test_it_looks_right_on_a_desk(
    server: LiveServer, open_page: Callable[..., Any], shoot: Callable[..., None], look: str
) -> None:
    page = ready(
        open_page(f"{server.url}/{SCENES[look]}", color_scheme=look, viewport={"width": 1280, "height": 900})
    )
    ask(page)
    page.wait_for_function("() => /same|differ/.test(document.querySelector('#comparison').textContent)")
    if look == "dark":
        page.check("#mode-scores", force=True)
    page.click(".times summary")
    page.focus("#view-shown canvas")
    page.keyboard.press("ArrowUp")
    page.evaluate("scrollTo(0, 0)")
    shoot(page, look)


def test_it_looks_right_on_a_phone(
    server: LiveServer, open_page: Callable[..., Any], shoot: Callable[..., None]
) -> None:
    url = f"{server.url}/#scene=40.2&budget=15%25"
    page = ready(
        open_page(url, viewport={"width": 360, "height": 780}, device_scale_factor=1.5, has_touch=True)
    )
    ask(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.is_visible("#view-shown .view-answer") and page.is_visible("#ask")
    page.evaluate("document.querySelector('.stage').scrollIntoView()")
    shoot(page, "phone")


def test_the_pages_policy_lets_nothing_else_in(server: LiveServer) -> None:
    reply = server.http.get("/")
    policy = reply.headers["content-security-policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    script = server.http.get("/playground/js/app.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert server.http.get("/playground/../../settings.py").status_code == 404


def _uri(path: Path) -> str:
    import base64

    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
