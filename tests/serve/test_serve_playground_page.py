"""The playground in a real browser against a server that behaves as told: asking, looking, comparing, keeping."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playground_fake import MARKUP, FakeServer, fake_server
from playground_steps import ask, finished

pytest_plugins = ("playground_page",)
Open = Callable[..., Any]


def set_budget(page: Any, position: int) -> None:
    page.fill("#budget", str(position))
    label = "full" if position == 100 else f"{position} %"
    page.wait_for_function("label => document.querySelector('.run[aria-pressed=true] .run-budget, #none')?.textContent"
                           ".startsWith(label)", arg=label)  # fmt: skip
    finished(page)


def brightness(page: Any, row: int, column: int, view: str = "#view-shown") -> float:
    """Mean brightness of a token's place on the canvas, 0 to 255."""
    script = """([view, row, column]) => {
        const canvas = document.querySelector(`${view} canvas`);
        const [w, h] = [canvas.width / 12, canvas.height / 12];
        const data = canvas.getContext('2d').getImageData(column * w + w / 4, row * h + h / 4, w / 2, h / 2).data;
        let sum = 0;
        for (let at = 0; at < data.length; at += 4) sum += data[at] + data[at + 1] + data[at + 2];
        return sum / (data.length / 4) / 3;
    }"""
    return float(page.evaluate(script, [view, row, column]))


def test_an_answer_streams_with_its_numbers(fake: FakeServer, page: Any) -> None:
    assert page.input_value("#question") == "What is in scene 7?"
    ask(page)
    assert page.inner_text(".answer") == "a disc"
    assert "exact answer" in page.inner_text(".verdict.right")
    facts = page.locator(".fact").all_inner_texts()
    assert facts[0] == "144 of 144 visual tokens" and facts[1].startswith("first token ")
    assert facts[2] == "100 tokens/s" and facts[3].startswith("3 tokens in ")
    stages = page.locator(".stage-list dt").all_text_contents()
    assert stages == ["queue", "preprocess", "encode", "prefill", "decode"]
    [request] = fake.requests
    assert request["stream"] and request["foveate_trace"] and request["visual_budget"] == "full"
    assert request["stream_options"] == {"include_usage": True} and request["temperature"] == 0
    picture, text = request["messages"][0]["content"]
    assert picture["image_url"]["url"].startswith("data:image/png;base64,") and text["type"] == "text"
    assert "a disc" in page.text_content("#speech")


def test_the_overlay_darkens_what_was_dropped(page: Any) -> None:
    before = brightness(page, 0, 0)
    page.fill("#budget", "25")
    ask(page)
    assert page.inner_text("#view-shown .view-count") == "36 of 144 tokens (25 %)"
    assert brightness(page, 0, 0) < before / 2 and brightness(page, 8, 6) > 200
    page.fill("#opacity", "0")
    assert brightness(page, 0, 0) == pytest.approx(before, abs=1)
    page.fill("#opacity", "100")
    page.check("#mode-scores", force=True)
    assert page.is_visible("#legend-scores")
    assert brightness(page, 5, 5) > brightness(page, 3, 3) > brightness(page, 0, 0)


def test_tokens_can_be_read_by_pointer_and_by_keys(page: Any) -> None:
    page.fill("#budget", "25")
    ask(page)
    canvas, readout = page.locator("#view-shown canvas"), page.locator("#view-shown .view-readout")
    assert "arrow keys" in readout.inner_text()
    size = canvas.bounding_box()
    canvas.hover(position={"x": size["width"] / 24, "y": size["height"] / 24})
    assert readout.inner_text() == "Row 1, column 1: dropped · score 39.5, rank 144 of 144"
    page.mouse.move(2, 2)
    canvas.focus()
    page.keyboard.press("ArrowRight")
    assert readout.inner_text().startswith("Row 7, column 7: kept · score 99.58, rank 1 of 144")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert readout.inner_text().startswith("Row 6, column 6: kept")
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    assert readout.inner_text().startswith("Row 6, column 1: dropped")
    page.keyboard.press("Tab")
    assert "arrow keys" in readout.inner_text()


def test_moving_the_slider_asks_again_once(fake: FakeServer, page: Any) -> None:
    ask(page)
    page.focus("#budget")
    for _ in range(18):  # full to 10 %
        page.keyboard.press("ArrowLeft")
    page.wait_for_selector(".run >> nth=1")
    finished(page)
    assert [request["visual_budget"] for request in fake.requests] == ["full", "10%"]
    assert page.get_attribute("#budget", "aria-valuetext") == "10 per cent of the visual tokens"
    assert page.inner_text(".answer") == "a smudge"
    assert "a disc" in page.inner_text(".verdict.wrong")
    assert "≠ full" in page.inner_text(".run.differs")
    page.click(".run >> nth=0")
    assert page.inner_text(".answer") == "a disc" and page.input_value("#budget") == "100"
    set_budget(page, 10)
    assert len(fake.requests) == 2, "an answer that is there was asked for again"
    page.select_option("#reducer", "random")
    page.wait_for_selector(".run >> nth=2")
    finished(page)
    assert fake.requests[2]["reducer"] == "random"
    assert "10 % random" in page.inner_text(".run[aria-pressed=true]")
    assert page.get_attribute("#reducer option[value=question]", "disabled") is not None


def test_full_and_reduced_side_by_side(fake: FakeServer, page: Any) -> None:
    page.check("#compare")
    page.fill("#budget", "10")
    ask(page)
    page.wait_for_function("() => document.querySelector('#comparison').textContent.includes('differ')")
    assert [request["visual_budget"] for request in fake.requests] == ["10%", "full"]
    assert page.inner_text("#comparison").startswith("The answers differ. 14 instead of 144 visual tokens.")
    assert page.inner_text("#view-full .view-answer") == "a disc"
    assert page.inner_text("#view-shown .view-answer") == "a smudge"
    for view in ("#view-full", "#view-shown"):
        assert re.search(r"first token .*tokens/s", page.inner_text(f"{view} .view-facts"))
    assert brightness(page, 0, 0, "#view-full") > 2 * brightness(page, 0, 0)
    set_budget(page, 50)
    assert page.inner_text("#comparison").startswith("The same answer. 72 instead of 144")
    assert len(fake.requests) == 3


def test_an_answer_is_text_whatever_it_says(page: Any) -> None:
    ask(page, "markup")
    assert page.inner_text(".answer") == MARKUP
    page.fill("#budget", "10")
    page.wait_for_selector(".run >> nth=1")
    finished(page)
    assert page.locator(".talk img, .talk script, .talk b").count() == 0
    page.click("#open-library")
    assert page.locator("#library img, #library script").count() == 0
    assert page.evaluate("window.struck") is None


def test_a_busy_server_is_waited_for(fake: FakeServer, page: Any) -> None:
    fake.refuse_next = 1
    page.press("#question", "Enter")
    page.wait_for_selector(".notice.warning")
    assert "5 requests are in flight" in page.inner_text("#notice")
    assert re.search(r"Next try in [01] s", page.inner_text("#notice"))
    assert page.get_attribute("#status", "data-state") == "busy"
    finished(page)
    assert len(fake.requests) == 2 and page.is_hidden("#notice")
    fake.refuse_next = 9
    page.fill("#question", "again")
    page.press("#question", "Enter")
    page.click("text=Give up")
    page.wait_for_selector(".answer-state.failed")
    assert len(fake.requests) == 3


def test_a_lost_server_is_looked_for(open_page: Open) -> None:
    with fake_server() as first:
        page = open_page(first.url)
        page.wait_for_selector("#view-shown canvas")
        port = int(first.url.rsplit(":", 1)[1])
    page.press("#question", "Enter")
    page.wait_for_selector(".notice.error")
    assert "cannot be reached" in page.inner_text("#notice")
    assert page.get_attribute("#status", "data-state") == "gone"
    with fake_server(port):
        page.wait_for_selector("#status[data-state=ready]")
        page.click("text=Ask again")
        finished(page)
        assert page.inner_text(".answer") == "a disc"


@pytest.mark.parametrize(
    ("question", "told"), [("cut", "broke"), ("bad", "The prompt has 1,300 tokens, the context 1,024")]
)
def test_a_failed_answer_says_why(page: Any, question: str, told: str) -> None:
    page.fill("#question", question)
    page.press("#question", "Enter")
    page.wait_for_selector(".answer-state.failed")
    assert told in page.inner_text(".answer-state.failed")
    assert told in page.inner_text("#notice")


def test_stop_tells_the_server(fake: FakeServer, page: Any) -> None:
    page.fill("#question", "slow")
    page.press("#question", "Enter")
    page.wait_for_selector(".answer.streaming")
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.querySelector('.answer-state').textContent === 'Stopped.'")
    assert page.inner_text(".answer") == "a"
    assert fake.aborted.wait(5)
    assert page.is_visible("#ask")


def test_turns_carry_the_conversation(fake: FakeServer, page: Any) -> None:
    ask(page)
    page.fill("#question", "bad")
    page.press("#question", "Enter")
    page.wait_for_selector(".answer-state.failed")
    ask(page, "And where?")
    roles = [message["role"] for message in fake.requests[-1]["messages"]]
    assert roles == ["user", "assistant", "user"], "a turn without an answer was sent along"
    first, second, third = (message["content"] for message in fake.requests[-1]["messages"])
    assert [part["type"] for part in first] == ["image_url", "text"]
    assert (second, third) == ("a disc", "And where?")
    page.click("#new")
    assert page.locator(".turn").count() == 0 and page.is_visible("#view-shown canvas")


def test_a_key_is_asked_for_and_kept_in_the_tab(fake: FakeServer, open_page: Open) -> None:
    fake.key = "sk-secret"
    page = open_page(fake.url)
    page.wait_for_selector(".notice.error")
    assert "no valid API key" in page.inner_text("#notice")
    page.click("text=Enter a key")
    page.keyboard.type("sk-secret")
    page.keyboard.press("Enter")
    page.wait_for_selector("#status[data-state=ready]")
    page.wait_for_selector("#view-shown canvas")
    ask(page)
    kept = page.evaluate("[JSON.stringify(localStorage), JSON.stringify(sessionStorage), location.href]")
    assert ["sk-secret" in place for place in kept] == [False, True, False]
    with page.expect_download() as download:
        page.click("#export-json")
    assert b"sk-secret" not in download.value.path().read_bytes()


def test_history_survives_a_reload(page: Any) -> None:
    page.fill("#budget", "25")
    ask(page)
    before = brightness(page, 0, 0)
    page.reload()
    page.wait_for_selector("#view-shown canvas")
    assert page.locator(".turn").count() == 0
    page.click("#open-library")
    page.click(".library-open")
    page.wait_for_selector(".turn .facts")
    assert page.inner_text(".answer") == "a disc" and page.is_hidden("#library")
    assert brightness(page, 0, 0) == pytest.approx(before, abs=1)
    page.click("#open-library")
    page.click("#library-clear")
    page.wait_for_selector("#library-empty")
    assert page.evaluate("localStorage.getItem('foveate.history')") is None
    count = """new Promise(resolve => { indexedDB.open('foveate').onsuccess = event => {
        event.target.result.transaction('pictures').objectStore('pictures').count().onsuccess =
            counted => resolve(counted.target.result); }; })"""
    assert page.evaluate(count) == 0


def test_exports_hold_everything(page: Any) -> None:
    import base64
    import io

    from PIL import Image

    page.check("#compare")
    page.fill("#budget", "10")
    ask(page)
    page.wait_for_function("() => document.querySelector('#comparison').textContent.includes('differ')")
    with page.expect_download() as download:
        page.click("#export-json")
    told = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert (told["format"], told["version"]) == ("foveate-playground", 1)
    conversation = told["conversation"]
    [turn] = conversation["turns"]
    assert [(run["budget"], run["answer"]) for run in turn["runs"]] == [
        ("10%", "a smudge"),
        ("full", "a disc"),
    ]
    assert len(turn["runs"][0]["trace"]["images"][0]["tiles"][0]["kept"]) == 14
    data = base64.b64decode(conversation["pictures"][0]["data"].split(",")[1])
    assert Image.open(io.BytesIO(data)).size == (336, 336)
    with page.expect_download() as download:
        page.click("#export-png")
    assert re.fullmatch(r"foveate-[\d-]+T[\d-]+\.png", download.value.suggested_filename)
    with Image.open(download.value.path()) as picture:
        assert picture.width == 2 * 560 + 3 * 24 and picture.height > 600
        left, right = picture.convert("L").getpixel((60, 60)), picture.convert("L").getpixel((660, 60))
    assert isinstance(left, int) and isinstance(right, int) and left > 200 > 120 > right


def test_a_link_opens_the_same_question(fake: FakeServer, page: Any, open_page: Open) -> None:
    page.fill("#seed", "12")
    page.press("#seed", "Enter")
    page.wait_for_function("() => document.querySelector('#question').value.includes('12')")
    page.fill("#question", "How large? <&%#")
    page.fill("#budget", "35")
    page.check("#compare")
    page.wait_for_function("() => location.hash.includes('compare=1')")
    link = page.evaluate("location.href")
    other = open_page(link)
    other.wait_for_function("() => document.querySelector('#question').value !== ''")
    assert other.input_value("#question") == "How large? <&%#"
    assert (other.input_value("#seed"), other.input_value("#budget")) == ("12", "35")
    assert other.is_checked("#compare") and other.inner_text("#budget-words") == "35 %"
    assert fake.requests == [], "opening a link asks for nothing"


def test_a_link_with_nonsense_is_a_plain_start(fake: FakeServer, open_page: Open) -> None:
    page = open_page(f"{fake.url}/#scene=99999999999.7&budget=<b>&reducer=none&compare=2")
    page.wait_for_selector("#view-shown canvas")
    assert (page.input_value("#seed"), page.input_value("#budget")) == ("7", "100")
    assert page.input_value("#reducer") == "fastervlm" and not page.is_checked("#compare")
