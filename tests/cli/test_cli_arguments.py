"""Which word is a model, which a picture, which the question."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from foveate.cli.arguments import is_local_model, sort_arguments, split_prompt
from foveate.errors import FoveateError, MediaError, ModelError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two pictures, a text file and a model."""
    monkeypatch.chdir(tmp_path)
    for name in ("cat.png", "my cat (1).jpg"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "my-llava").mkdir()
    (tmp_path / "my-llava" / "config.json").write_text("{}")
    return tmp_path


QUESTION = "How many objects are there?"


@pytest.mark.parametrize(
    ("words", "model", "images", "question"),
    [
        ([], None, (), None),
        (["cat.png", QUESTION], None, ("cat.png",), QUESTION),
        (["./my-llava", "cat.png", QUESTION], "my-llava", ("cat.png",), QUESTION),
        (["my-llava", QUESTION], "my-llava", (), QUESTION),
        (["fovea-nano", "cat.png"], "fovea-nano", ("cat.png",), None),
        (["org/model", "cat.png", QUESTION], "org/model", ("cat.png",), QUESTION),
        (["org/model@v1.0"], "org/model@v1.0", (), None),
        (["cat.png", "yes/no"], None, ("cat.png",), "yes/no"),
        (["cat.png", QUESTION, "my cat (1).jpg"], None, ("cat.png", "my cat (1).jpg"), QUESTION),
        (["-", QUESTION], None, ("-",), QUESTION),
        (["data:image/png;base64,AAAA", "What is it?"], None, ("data:image/png;base64,AAAA",), "What is it?"),
        # A file that exists is a picture whatever its name says: opening it tells what is wrong with it.
        (["notes.txt", QUESTION], None, ("notes.txt",), QUESTION),
        (["x" * 5000], None, (), "x" * 5000),
        (["a null \0 byte"], None, (), "a null \0 byte"),
        (["~nobody-of-that-name"], None, (), "~nobody-of-that-name"),
        ([""], None, (), ""),
    ],
)
def test_words_are_sorted(
    words: list[str], model: str | None, images: tuple[str, ...], question: str | None
) -> None:
    request = sort_arguments(words)
    assert (request.model, request.images, request.question) == (model, images, question)


def test_flags_come_before_words() -> None:
    request = sort_arguments(["cat.png", "yes/no"], model="org/model", images=["my cat (1).jpg"])
    assert request.model == "org/model"
    assert request.images == ("my cat (1).jpg", "cat.png")
    # With --model, the first word is no hub name any more.
    assert sort_arguments(["yes/no"], model="org/model").question == "yes/no"


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (["dog.png", QUESTION], MediaError, "no picture 'dog.png'"),
        (["cta.png", QUESTION], MediaError, "Did you mean 'cat.png'?"),
        (["what is in dog.jpeg"], MediaError, "no picture"),
        (["no-folder/cat.png"], MediaError, "There is no folder 'no-folder'"),
        (["report.pdf"], MediaError, "no picture 'report.pdf'"),
        (["https://example.org/cat.png"], MediaError, "no network request"),
        (["./missing", "cat.png"], ModelError, "no model folder './missing'"),
        (["how", "many", "objects"], FoveateError, "whole question in quotes"),
        (["fovea-nan", "cat.png", QUESTION], FoveateError, "Did you mean 'fovea-nano'?"),
    ],
)
def test_wrong_words_are_named(words: list[str], error: type[FoveateError], says: str) -> None:
    with pytest.raises(error) as caught:
        sort_arguments(words)
    assert says in str(caught.value)


def test_two_models_are_refused() -> None:
    with pytest.raises(FoveateError, match="two models"):
        sort_arguments(["./my-llava"], model="fovea-nano")


@pytest.mark.parametrize(
    ("prompt", "text", "images"),
    [
        ("what is this", "what is this", []),
        ("cat.png what is this", "what is this", ["cat.png"]),
        ("what is in cat.png?", "what is in?", ["cat.png"]),
        ("compare cat.png and 'my cat (1).jpg' please", "compare and please", ["cat.png", "my cat (1).jpg"]),
        ('"my cat (1).jpg" who?', "who?", ["my cat (1).jpg"]),
        (r"my\ cat\ \(1\).jpg who?", "who?", ["my cat (1).jpg"]),
        ("does `dog.png` exist", "does `dog.png` exist", []),
        ("don't mind the cat's tail", "don't mind the cat's tail", []),
        ("3.png", None, None),
        ("is 3.5 more than .png", "is 3.5 more than .png", []),
        ("data:image/png;base64,AAAA what?", "what?", ["data:image/png;base64,AAAA"]),
        ("cat.png", "", ["cat.png"]),
        ("", "", []),
    ],
)
def test_pictures_are_taken_out_of_a_prompt(prompt: str, text: str | None, images: list[str] | None) -> None:
    if text is None:
        with pytest.raises(MediaError, match="backticks"):
            split_prompt(prompt)
    else:
        assert split_prompt(prompt) == (text, images)


def test_a_file_address_is_a_picture(folder: Path) -> None:
    address = (folder / "my cat (1).jpg").as_uri()
    assert "%20" in address
    assert split_prompt(f"{address} who?") == ("who?", [str(folder / "my cat (1).jpg")])


def test_only_hub_names_may_need_the_network() -> None:
    assert is_local_model(None)
    assert is_local_model("fovea-nano")
    assert is_local_model("./my-llava")
    assert not is_local_model("org/model")
