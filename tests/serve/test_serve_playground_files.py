"""The playground's files without a browser: nothing from elsewhere, no inline code, packed, readable in both looks."""

from __future__ import annotations

import re
import tomllib
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import pytest
from playground_fake import STATIC

ROOT = Path(__file__).parents[2]
FILES = sorted(path for path in STATIC.rglob("*") if path.is_file())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
PAGE = (STATIC / "index.html").read_text(encoding="utf-8")


class _Elements(HTMLParser):
    """Every tag with its attributes, and the ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        if self._tag in ("script", "style") and data.strip():
            self.inline.append(data)


ELEMENTS = _Elements(PAGE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_comes_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text) if path.suffix == ".js" else text
    text = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?://|@import|\bimport\s*\(", text)


def test_the_page_has_no_inline_code_or_style() -> None:
    assert ELEMENTS.inline == []
    for tag, attributes in ELEMENTS.tags:
        assert not [name for name in attributes if name == "style" or name.startswith("on")], tag


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_makes_markup_of_text(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text
    )
    assert not re.search(r'setAttribute\("(style|on)', text)
    assert len(text.splitlines()) <= 300


def test_what_the_page_names_exists() -> None:
    ids = [attributes["id"] for _, attributes in ELEMENTS.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in ELEMENTS.tags:
        for name in ("for", "aria-labelledby", "list"):
            if attributes.get(name):
                assert attributes[name] in ids
        for name in ("src", "href"):
            target = attributes.get(name) or ""
            if target.startswith("#"):
                assert target[1:] in ids
            elif target:
                assert (STATIC / target.removeprefix("playground/")).is_file(), target
    asked = {one for path in SCRIPTS for one in re.findall(r'byId\("([^"]+)"\)', path.read_text("utf-8"))}
    assert asked and asked <= set(ids)


def test_every_import_names_something_that_is_exported() -> None:
    for path in SCRIPTS:
        text = path.read_text(encoding="utf-8")
        for names, target in re.findall(r'import \{([^}]+)\} from "\./([^"]+)"', text):
            exported = (STATIC / "js" / target).read_text(encoding="utf-8")
            for name in names.split(","):
                assert re.search(rf"export (async )?(const|class|function\*?) {name.strip()}\b", exported), (
                    name
                )
                assert len(re.findall(rf"\b{name.strip()}\b", text)) > 1, f"{path.name} does not use {name}"


def test_every_control_has_a_name() -> None:
    labelled = {attributes.get("for") for tag, attributes in ELEMENTS.tags if tag == "label"}
    wrapped = set(re.findall(r"<label[^>]*>(?:(?!</label>).)*?id=\"([^\"]+)\"", PAGE, re.DOTALL))
    for tag, attributes in ELEMENTS.tags:
        if tag in ("input", "select", "textarea") and "hidden" not in attributes:
            assert attributes["id"] in labelled | wrapped, attributes


def test_the_wheel_carries_the_files() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["foveate"]
    packed = {path for pattern in patterns for path in STATIC.parents[2].glob(pattern)}
    assert set(FILES) <= packed


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of #rrggbb."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("look", [0, 1], ids=["light", "dark"])
def test_words_can_be_read(look: int) -> None:
    css = (STATIC / "css" / "base.css").read_text(encoding="utf-8")
    colours = {
        name: pair[look] for name, *pair in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
    }
    words = ("ink", "soft-ink", "accent", "amber", "bad", "good")
    for word, ground in product(words, ("ground", "card", "sunken")):
        assert _contrast(colours[word], colours[ground]) >= 4.5, (word, ground)
    assert _contrast(colours["on-accent"], colours["accent"]) >= 4.5
    assert _contrast(colours["strong-line"], colours["card"]) >= 3  # borders of controls
