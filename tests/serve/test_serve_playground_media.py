"""The playground in a real browser: pictures from everywhere, small screens, keyboards, and its own event parser."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playground_fake import FakeServer
from playground_steps import ask, ready

pytest_plugins = ("playground_page",)
Open = Callable[..., Any]
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60"><rect width="90" height="60" fill="red"/></svg>'


def png(width: int, height: int, colour: str = "teal") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


def sent(fake: FakeServer) -> list[Image.Image]:
    """The pictures of the last request."""
    parts = fake.requests[-1]["messages"][0]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))) for url in urls]


def give(page: Any, how: str, name: str, kind: str, data: bytes) -> None:
    """Hands the page a file by a paste or a drop."""
    script = """([how, name, kind, text]) => {
        const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], name, {type: kind}));
        const event = how === 'paste'
            ? new ClipboardEvent('paste', {clipboardData: transfer, bubbles: true, cancelable: true})
            : new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true});
        document.body.dispatchEvent(event);
    }"""
    page.evaluate(script, [how, name, kind, base64.b64encode(data).decode()])


def test_pictures_are_opened_pasted_and_dropped(fake: FakeServer, page: Any) -> None:
    page.set_input_files("#file", [{"name": "wide.png", "mimeType": "image/png", "buffer": png(300, 100)}])
    page.wait_for_function(
        "() => document.querySelector('#view-shown .view-title').textContent === 'wide.png'"
    )
    assert page.input_value("#question") == "" and "scene" not in page.evaluate("location.hash")
    ask(page, "What is this?")
    assert [(one.size, one.format) for one in sent(fake)] == [((300, 100), "PNG")]
    for how, size in (("paste", (80, 40)), ("drop", (40, 80))):
        give(page, how, f"{how}.png", "image/png", png(*size))
        page.wait_for_function(
            "name => document.querySelector('#view-shown .view-title').textContent === name", arg=f"{how}.png"
        )
        ask(page, "And this?")
        assert [one.size for one in sent(fake)] == [size]
    ask(page, "And now?")
    assert len(fake.requests[-1]["messages"]) == 3


def test_other_formats_are_turned_into_png_and_said_so(fake: FakeServer, page: Any) -> None:
    give(page, "drop", "drawing.svg", "image/svg+xml", SVG)
    page.wait_for_function("() => document.querySelector('#picture-note').textContent !== ''")
    ask(page, "Which colour?")
    [picture] = sent(fake)
    assert picture.format == "PNG" and picture.convert("RGB").getpixel((20, 20)) == (255, 0, 0)
    assert "Sent as PNG, 90 × 60; the file is image/svg+xml" in page.inner_text("#picture-note")


def test_large_pictures_are_scaled_and_said_so(fake: FakeServer, page: Any) -> None:
    give(page, "drop", "large.png", "image/png", png(5000, 100))
    page.wait_for_function("() => document.querySelector('#picture-note').textContent !== ''")
    assert "Sent as JPEG, 4096 × 82" in page.inner_text("#picture-note")
    ask(page, "What?")
    assert sent(fake)[0].size == (4096, 82)


def test_a_file_that_is_no_picture_is_refused(page: Any) -> None:
    give(page, "drop", "notes.txt", "text/plain", b"words")
    page.wait_for_selector(".notice.error")
    assert "notes.txt is no picture that this browser can read" in page.inner_text("#notice")
    assert page.is_visible("#view-shown canvas"), "the picture before is gone"


def test_frames_of_a_camera(fake: FakeServer, page: Any) -> None:
    page.click("#camera")
    page.wait_for_selector("#frames-take:enabled")
    assert "only frames that you take are sent" in page.inner_text("#frames-status")
    page.select_option("#frames-count", "2")
    page.select_option("#frames-interval", "0.5")
    page.click("#frames-take")
    page.wait_for_selector("#frames", state="hidden")
    assert page.evaluate("document.querySelector('#frames-video').srcObject") is None, (
        "the camera is still on"
    )
    assert page.locator(".thumb").count() == 2
    ask(page, "What moves?")
    first, second = sent(fake)
    assert first.size == second.size and first.size[0] >= 320
    assert first.tobytes() != second.tobytes()
    page.click(".thumb >> nth=1")
    assert page.get_attribute(".thumb >> nth=1", "aria-pressed") == "true"
    assert page.inner_text("#view-shown .view-count").startswith("144 of 144")


def test_frames_of_a_video_file(fake: FakeServer, page: Any, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'foveate[video]'")
    path = tmp_path / "ramp.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for at in range(20):  # from black to white in two seconds
            frame = av.VideoFrame.from_image(Image.new("RGB", (64, 48), (at * 13,) * 3))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    page.set_input_files("#file", str(path))
    page.wait_for_selector("#frames-take:enabled")
    page.select_option("#frames-count", "4")
    page.click("#frames-take")
    page.wait_for_selector("#frames", state="hidden")
    ask(page, "What happens?")
    levels = [picture.convert("L").resize((1, 1)).getpixel((0, 0)) for picture in sent(fake)]
    assert levels == pytest.approx([2.5 * 13, 7.5 * 13, 12.5 * 13, 17.5 * 13], abs=16)
    page.set_input_files("#file", [{"name": "no.mp4", "mimeType": "video/mp4", "buffer": b"nothing"}])
    page.wait_for_function(
        "() => document.querySelector('#frames-status').textContent.includes('cannot play')"
    )
    assert page.is_disabled("#frames-take")


@pytest.mark.parametrize("width", [360, 768])
def test_small_screens_need_no_sideways_scrolling(open_page: Open, fake: FakeServer, width: int) -> None:
    page = ready(open_page(fake.url, viewport={"width": width, "height": 740}, has_touch=True))
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) <= width
    page.check("#compare")
    page.fill("#budget", "10")
    ask(page)
    page.wait_for_function("() => document.querySelector('#comparison').textContent.includes('differ')")
    assert page.evaluate(wide) <= width
    for button in page.locator("button:visible").all():
        box = button.bounding_box()
        assert box["height"] >= 24 and box["width"] >= 24, "too small to touch"  # WCAG 2.2, 2.5.8
    for opener, dialog in (("#open-settings", "#settings"), ("#open-library", "#library")):
        page.click(opener)
        box = page.locator(dialog).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        page.keyboard.press("Escape")


def test_everything_can_be_reached_by_keyboard_and_seen(page: Any) -> None:
    ask(page)
    reached, outlined = [], []
    page.focus(".skip")
    for _ in range(40):
        page.keyboard.press("Tab")
        told = page.evaluate("""() => {
            const at = document.activeElement, style = getComputedStyle(at);
            const around = getComputedStyle(at.closest('fieldset') ?? at);
            const seen = one => parseFloat(one.outlineWidth) >= 2 && one.outlineStyle !== 'none';
            return [at.id || at.className, [style, around].some(seen)];
        }""")
        reached.append(told[0])
        outlined.append(told[1])
        if told[0] == "question":
            break
    wanted = ["open-library", "open-settings", "open", "camera", "seed", "difficulty", "next-scene"]
    wanted += ["view-canvas", "opacity", "budget", "reducer", "compare", "export-png", "question"]
    assert [one for one in reached if one in wanted] == wanted
    assert all(outlined), [one for one, seen in zip(reached, outlined, strict=True) if not seen]


def test_motion_is_left_out_on_request(open_page: Open, fake: FakeServer) -> None:
    names = []
    for wish in ("no-preference", "reduce"):
        page = ready(open_page(fake.url, reduced_motion=wish))
        page.fill("#question", "slow")
        page.press("#question", "Enter")
        page.wait_for_selector(".answer.streaming")
        script = "getComputedStyle(document.querySelector('.answer'), '::after').animationName"
        names.append(page.evaluate(script))
        page.keyboard.press("Escape")
    assert names == ["blink", "none"]


def test_what_streams_is_heard_in_phrases(fake: FakeServer, page: Any) -> None:
    page.fill("#question", "slow")
    page.press("#question", "Enter")
    page.wait_for_selector(".answer.streaming")
    assert page.get_attribute("#speech", "aria-live") == "polite"
    fake.words.set()
    page.wait_for_selector(".turn .facts")
    page.wait_for_function("() => document.querySelector('#speech').textContent.includes('visual tokens')")
    assert page.text_content("#speech").startswith("a disc ")


PIECES = [": a comment\n\n", "data: one\n\n", "data: two\r\ndata:  lines\r\n\r\n", "event: note\rdata\r\r",
          "id: 7\ndata:{\"a\": \"ü😀\"}\n\n", "\n\n", "data: never ended\n"]  # fmt: skip
EVENTS = [["message", "one"], ["message", "two\n lines"], ["note", ""], ["message", '{"a": "ü😀"}']]


def test_events_are_read_however_they_are_cut(page: Any) -> None:
    script = """async (cuts) => {
        const { eventsOf } = await import('./playground/js/sse.js');
        const told = [];
        for (const pieces of cuts) {
            const bytes = pieces.map(piece => Uint8Array.from(atob(piece), letter => letter.charCodeAt(0)));
            const stream = new ReadableStream({start(gate) { bytes.forEach(one => gate.enqueue(one)); gate.close(); }});
            const events = [];
            for await (const { name, data } of eventsOf(stream)) events.push([name, data]);
            told.push(events);
        }
        return told;
    }"""
    text = ("\ufeff" + "".join(PIECES)).encode()
    draw = random.Random(11)
    cuts = [[text], [text[at : at + 1] for at in range(len(text))]]
    for _ in range(60):
        places = sorted(draw.sample(range(1, len(text)), draw.randint(1, 12)))
        cuts.append([text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)])
    coded = [[base64.b64encode(piece).decode() for piece in pieces] for pieces in cuts]
    assert page.evaluate(script, coded) == [EVENTS] * len(cuts)


def test_retry_after_is_seconds_or_a_date(page: Any) -> None:
    script = """async () => {
        const { retryAfterOf } = await import('./playground/js/api.js');
        const now = Date.parse('2030-01-01T00:00:00Z');
        const date = 'Tue, 01 Jan 2030 00:00:30 GMT';
        return ['7', ' 0 ', date, 'soon', null].map(one => retryAfterOf(one, now));
    }"""
    assert page.evaluate(script) == [7, 0, 30, None, None]


def test_tiles_padding_and_layers_are_placed(page: Any) -> None:
    """A picture in two tiles with an overview, and one that is padded to a square."""
    script = """async () => {
        const overlay = await import('./playground/js/overlay.js');
        const tile = (box, overview) => ({box, grid: [2, 2], kept: [0], scores: [4, 3, 2, 1], overview});
        const parts = {width: 200, height: 100, tiles: [tile([0, 0, 200, 100], true), tile([0, 0, 100, 100], false),
            tile([100, 0, 200, 100], false)]};
        const shown = overlay.layerTiles(parts, 'parts');
        const cell = overlay.cellAt(shown, 149, 51);
        const square = {box: [0, -50, 200, 150], grid: [4, 4], kept: [], scores: []};
        const padded = {width: 200, height: 100, tiles: [square]};
        return {
            layers: [overlay.hasLayers(parts), overlay.layerTiles(parts, 'overview').length, shown.length],
            cell, across: overlay.neighbour(shown, cell, -1, 0), edge: overlay.neighbour(shown, cell, 0, 1),
            outside: overlay.cellAt(shown, 200, 50), facts: overlay.cellFacts(shown, cell),
            padding: overlay.paddingCells(padded, padded.tiles),
        };
    }"""
    told = page.evaluate(script)
    assert told["layers"] == [True, 1, 2]
    assert told["cell"] == told["edge"] == {"tile": 1, "row": 1, "column": 0}
    assert told["across"] == {"tile": 0, "row": 1, "column": 1} and told["outside"] is None
    assert told["facts"] == {"kept": False, "score": 2, "rank": 5, "of": 8}
    assert told["padding"] == 8


def test_a_full_store_drops_the_oldest(page: Any) -> None:
    """A browser gives about five million characters."""
    ask(page)
    script = """() => {
        const [one] = JSON.parse(localStorage.getItem('foveate.history'));
        const [turn] = one.turns;
        const old = (_, at) => ({...one, id: `old-${at}`, turns: [{...turn, question: 'x'.repeat(400_000)}]});
        localStorage.setItem('foveate.history', JSON.stringify(Array.from({length: 12}, old)));
    }"""
    page.evaluate(script)
    page.fill("#question", "z" * 600_000)
    page.press("#question", "Enter")
    page.wait_for_selector(".turn:nth-child(2) .facts")
    page.wait_for_function(
        "() => JSON.parse(localStorage.getItem('foveate.history'))[0].id.startsWith('old') === false"
    )
    kept = json.loads(page.evaluate("localStorage.getItem('foveate.history')"))
    assert 1 < len(kept) < 13 and kept[1]["id"] == "old-0" and kept[-1]["id"] != "old-11"
