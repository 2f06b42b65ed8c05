"""A browser for the playground's tests: Debian's Chromium or another that is installed, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playground_fake import FakeServer, fake_server
from playground_steps import ready

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = [
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


def chromium() -> str | None:
    """The path of a browser; FOVEATE_CHROMIUM may name one."""
    return os.environ.get("FOVEATE_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="module")  # while it is open an event loop runs, and other modules want their own
def chromium_browser() -> Iterator[Any]:
    path = chromium()
    if path is None:
        pytest.skip(
            "no Chromium here: install Debian's package chromium, or set FOVEATE_CHROMIUM to a browser"
        )
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    # Chromium's own sandbox does not start for root.
    arguments = [*ARGUMENTS, "--no-sandbox"] if os.geteuid() == 0 else ARGUMENTS
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium_browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page in a browser profile of its own. Errors of its scripts and of its policy fail the test."""
    contexts, troubles = [], []

    def open_it(url: str, **settings: Any) -> Any:
        context = chromium_browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **settings})
        context.set_default_timeout(40_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda one: troubles.append(one.text) if "Content Security" in one.text else None)
        page.goto(url)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


@pytest.fixture
def page(fake: FakeServer, open_page: Callable[..., Any]) -> Any:
    return ready(open_page(fake.url))
