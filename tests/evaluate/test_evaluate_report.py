"""The page of a run: what stands in it, that it needs no network, and that a browser shows it on desk and phone."""

from __future__ import annotations

import json
import os
import re
import shutil

import pytest
from finished_runs import replies, toy, write_run

from foveate.cli.main import run as command
from foveate.errors import MediaError
from foveate.evaluate.contract import Picture
from foveate.evaluate.perturb.variant import BASELINE, Variant
from foveate.evaluate.run.report import write_report
from foveate.evaluate.run.summary import summarise
from foveate.evaluate.tasks.registry import TASKS

pytestmark = pytest.mark.usefixtures("toy")
__all__ = ["toy"]
VARIANTS = (
    BASELINE,
    Variant(name="loud", axis="wording", task_settings={"words": "WHAT COLOUR"}),
    Variant(name="terse", axis="wording", task_settings={"words": "Colour"}),
)


@pytest.fixture
def folder(tmp_path):
    texts = replies(wrong=[0, 1, 3], count=28, what=[4], sorry=[5])
    texts["toy-0006"] = "<script>alert(1)</script>"
    return write_run(
        tmp_path / "run",
        texts,
        variants=VARIANTS,
        varied={"loud": replies(wrong=range(14), count=28), "terse": replies(wrong=[2], count=28)},
        failed={"toy-0028": ("timeout", "no answer in 60 s"), "toy-0029": ("timeout", "no answer in 60 s")},
        limit=30,
    )


def page_of(folder) -> str:
    write_report(folder)
    return (folder.path / "report.html").read_text(encoding="utf-8")


def test_the_page_says_what_the_summary_says(folder):
    page = page_of(folder)
    row = next(row for row in summarise(folder)["results"] if row["variant"] == "baseline")
    assert f"{100 * row['mean']:.1f} %" in page and "2 timeout" in page and "red recall" in page
    for part in ("Confusion matrix", "By group", "Worst answers (6)", "Perturbations", "no answer in 60 s"):
        assert part in page, part
    assert "a random sample of at most 30 items a task (seed 0)" in page
    assert page.count('src="data:image/jpeg;base64,') == 6


def test_the_page_needs_no_network_and_runs_nothing(folder):
    page = page_of(folder)
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
    assert "http" not in page and "<link" not in page
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', page))


def test_perturbations_stand_beside_the_error_of_items(folder):
    (record,) = write_report(folder)["perturbations"]
    (axis,) = record["axes"]
    assert axis["worst"] == "loud" and axis["worst_score"] == 0.5 and axis["moved"] == ["loud"]
    assert [one["variant"] for one in axis["variants"]] == ["loud", "terse"]
    assert 0 < axis["item_error"] < axis["spread"]
    assert record["items"] == 28
    page = page_of(folder)
    assert "worst variant" in page and "loud" in page


def test_variants_without_common_items_are_told(tmp_path):
    folder = write_run(
        tmp_path, {"toy-0000": "red"}, variants=VARIANTS[:2], varied={"loud": {"toy-0001": "green"}}
    )
    assert "No item has an answer in every variant" in page_of(folder)


def test_a_picture_that_is_gone_is_told_and_the_rest_is_shown(folder, monkeypatch):
    def gone(self):
        raise MediaError("7.png cannot be opened", why="it is not there")

    monkeypatch.setattr(Picture, "open", gone)
    page = page_of(folder)
    assert "no picture: 7.png cannot be opened: it is not there" in page and "Worst answers (6)" in page


def test_the_report_of_a_task_that_is_gone_is_still_a_report(folder, monkeypatch):
    monkeypatch.delitem(TASKS, "toy")
    page = page_of(folder)
    assert "Confusion matrix" in page and "Measures of all items together are missing" in page


def test_an_empty_run_has_a_page(tmp_path):
    assert "0 answers in 0 tasks" in page_of(write_run(tmp_path, {}))


def test_a_run_that_is_not_over_says_so_on_every_page(tmp_path, capsys):
    """Ten of thirty items were asked: a score of ten must not be taken for that of the set."""
    write_run(tmp_path / "a", replies(count=10), planned=30, model="half")
    write_run(tmp_path / "b", replies(), planned=30, model="whole")
    said = "unfinished: of toy 10 of 30 items were asked"
    assert command(["eval", "report", str(tmp_path / "a")]) == 0
    assert said in capsys.readouterr().err and said in (tmp_path / "a" / "report.html").read_text()
    both = [str(tmp_path / "a"), str(tmp_path / "b"), "--html", str(tmp_path / "c.html")]
    assert command(["eval", "compare", *both]) == 0
    assert f"half, {said}" in capsys.readouterr().err and f"half, {said}" in (tmp_path / "c.html").read_text()
    assert command(["eval", "report", str(tmp_path / "b")]) == 0
    assert "unfinished" not in capsys.readouterr().err
    assert "not over" not in (tmp_path / "b" / "report.html").read_text()


# -- the command line -------------------------------------------------------------------------------------


def test_report_compare_and_export_from_the_command_line(folder, tmp_path, capsys):
    assert command(["eval", "report", str(folder.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == 84
    assert command(["eval", "report", str(folder.path)]) == 0
    shown = capsys.readouterr()
    assert "worst variant" in shown.out and "report.html" in shown.err and "random sample" in shown.err
    write_run(tmp_path / "other", replies(), model="other")
    both = [str(folder.path), str(tmp_path / "other")]
    assert command(["eval", "compare", *both, "--html", str(tmp_path / "c.html")]) == 0
    shown = capsys.readouterr()
    assert "other is ahead" in shown.out or "cannot be separated" in shown.out
    assert "2 items of other are not in every run" in shown.err and (tmp_path / "c.html").is_file()
    assert command(["eval", "compare", *both, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["comparisons"][0]["items"] == 28
    assert command(["eval", "export", str(folder.path), "--output", str(tmp_path / "x")]) == 0
    assert len(list((tmp_path / "x" / "made-up").iterdir())) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "nowhere"], "holds no run of foveate eval"),
        (["compare", "nowhere"], "One run has nothing to be compared with"),
        (["export", "nowhere", "--output", "x", "--format", "lmms"], "Did you mean 'lmms-eval'?"),
    ],
)
def test_what_is_not_there_is_told(arguments, said, capsys):
    assert command(["eval", *arguments]) == 2
    assert said in capsys.readouterr().err


# -- a browser --------------------------------------------------------------------------------------------


def test_a_browser_shows_it_on_desk_and_phone(folder):
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    path = os.environ.get("FOVEATE_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(
            "no Chromium here: install Debian's package chromium, or set FOVEATE_CHROMIUM to a browser"
        )
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    write_report(folder)
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        for width in (1200, 390):
            page = browser.new_page(viewport={"width": width, "height": 800})
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto((folder.path / "report.html").as_uri())
            # Tables scroll on their own; the page itself is never wider than the window.
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            broken = page.evaluate("[...document.images].filter(one => !one.naturalWidth).length")
            assert (page.evaluate("document.images.length"), broken) == (6, 0)
            assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        browser.close()
