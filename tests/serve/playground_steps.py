"""What a person does on the playground, in steps that tests share."""

from __future__ import annotations

from typing import Any


def ready(page: Any) -> Any:
    """The page once it has found its server and drawn the first scene."""
    page.wait_for_selector("#status[data-state=ready]")
    page.wait_for_selector("#view-shown canvas")
    return page


def ask(page: Any, question: str | None = None) -> None:
    """Asks and waits for the whole answer."""
    if question is not None:
        page.fill("#question", question)
    page.press("#question", "Enter")
    finished(page)


def finished(page: Any) -> None:
    """Waits until nothing is being asked any more."""
    page.wait_for_selector("#ask:not([hidden])")
    page.wait_for_selector(".turn:last-child .facts")
