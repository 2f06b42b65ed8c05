"""`foveate bench` on fovea-nano with a handful of questions: paired, resumable, scored again without a model."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tiny import build_tiny

from foveate.cli.main import run as foveate
from foveate.errors import FoveateError
from foveate.evaluate.bench.folder import RunFolder
from foveate.evaluate.bench.gallery import keep_map
from foveate.evaluate.bench.grid import Grid, make_grid
from foveate.evaluate.bench.items import Item, make_items
from foveate.evaluate.bench.planning import plan
from foveate.evaluate.bench.report import write_report
from foveate.evaluate.bench.runner import begin, run_cells
from foveate.evaluate.bench.speed import cells_named, run_speed
from foveate.evaluate.bench.summary import summarise
from foveate.evaluate.nano import answer
from foveate.evaluate.scaling import ScalingLaw
from foveate.evaluate.statistics import wilson_interval
from foveate.models import load
from foveate.reduce import get_reducer, reduce_prompt

GRID = Grid(
    methods=("random", "downsample", "fastervlm", "divprune"),
    budgets=("25%",),
    families=("attribute", "count"),
    items=4,
    turns=2,
)


@pytest.fixture(scope="module")
def nano():
    return load()


def clock():
    """Ticks of equal length: the same work takes the same time in every run."""
    return map(float, itertools.count()).__next__


def start(model, place, grid=GRID, *, resume=False):
    return begin(model, grid, place, machine={"processor": "any"}, command="foveate bench", resume=resume)


@pytest.fixture(scope="module")
def measured(nano, tmp_path_factory):
    folder = start(nano, tmp_path_factory.mktemp("bench") / "run")
    run_cells(nano, folder, clock=clock())
    write_report(folder)
    return folder


def without_residence(summary):
    """What this process holds in memory depends on the tests that ran before."""
    for record in summary["cells"]:
        record.pop("peak_resident_bytes")
    return summary


# -- the grid -------------------------------------------------------------------------------------------------


def test_baselines_are_in_every_grid():
    grid = make_grid("smoke", methods=["tome"], budgets=["25%", "10"], families=["count"])
    assert [cell.name for cell in grid.cells] == [
        "full",
        "no image",
        *(f"{method}@{budget}" for budget in ("25%", "10") for method in ("random", "downsample", "tome")),
    ]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"methods": ["fastervml"]}, "Did you mean 'fastervlm'"),
        ({"budgets": ["0"]}, "keeps no token"),
        ({"budgets": ["100%"]}, "drops nothing"),
        ({"budgets": ["full"]}, "drops nothing"),
        ({"families": ["cuont"]}, "Did you mean 'count'"),
        ({"items": 0}, "items is 0"),
        ({"turns": 3}, "turns is 3"),
        ({"seed": 8}, "seed is 8"),
    ],
)
def test_what_does_not_exist_is_refused(asked, says):
    with pytest.raises(FoveateError, match=says):
        make_grid("smoke", **asked)


def test_items_are_the_same_whatever_the_methods_and_others_for_another_seed():
    first = make_items(GRID)
    again = make_items(make_grid("smoke", families=GRID.families, items=4, turns=2))
    other = make_items(make_grid("smoke", families=GRID.families, items=4, turns=2, seed=1))
    assert first == again
    assert len({item.picture for item in [*first, *other]}) == 16
    assert all(Item.from_dict(json.loads(json.dumps(item.to_dict()))) == item for item in first)
    assert {len(item.turns) for item in first if item.family == "count"} == {1}
    assert {len(item.turns) for item in first if item.family == "attribute"} == {2}


def test_a_second_turn_needs_a_family_that_can_be_followed_up():
    with pytest.raises(FoveateError, match="None of the 2 questions has a second turn"):
        make_items(make_grid("smoke", families=["count"], items=2, turns=2))


# -- measuring --------------------------------------------------------------------------------------------------


def test_every_cell_answers_the_same_items_and_the_ends_as_plain_generation_does(nano, measured):
    for cell in GRID.cells:
        assert [item for name, item in measured.samples if name == cell.name] == list(measured.items)
    for item in measured.items.values():
        question = item.turns[0].text
        full, blind = measured.samples["full", item.id], measured.samples["no image", item.id]
        assert full[0]["reply"] == answer(nano, question, item.image())
        assert blind[0]["reply"] == answer(nano, question, None)
        assert (full[0]["kept"], blind[0]["kept"]) == (144, 0)


def test_keep_maps_come_back_from_the_folder(nano, measured):
    reread = RunFolder.open(measured.path)
    for item in itertools.islice(reread.items.values(), 2):
        messages = [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": item.turns[0].text}]}
        ]
        prompt = nano.prepare(messages, images=[item.image()])
        for method in ("divprune", "downsample", "random"):
            row = reread.samples[f"{method}@25%", item.id][0]
            reduced = reduce_prompt(
                nano, prompt, None, get_reducer(method), "25%", question=item.turns[0].text
            )
            found = keep_map(reread, row, method)
            assert found.kept.tolist() == reduced.keep_maps[0].kept.tolist()
            assert row["kept"] == found.count < row["total"] == found.total


def test_a_stopped_run_goes_on_to_the_same_summary(nano, measured, tmp_path):
    def stop_at(done, total):
        if done == 19:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cells(nano, start(nano, tmp_path), clock=clock(), progress=stop_at)
    samples = tmp_path / "samples.jsonl"
    whole = samples.read_text(encoding="utf-8")
    assert whole.count("\n") < (measured.path / "samples.jsonl").read_text(encoding="utf-8").count("\n")
    half = '{"cell": "random@25%", "it'
    samples.write_text(whole + half, encoding="utf-8")  # killed while it wrote
    kept = len(RunFolder.open(tmp_path).samples)
    assert (
        samples.read_text(encoding="utf-8") == whole + half
    )  # looking at a run leaves its files to their writer
    told = []
    again = start(nano, tmp_path, resume=True)
    assert len(again.samples) == kept and samples.read_text(encoding="utf-8") == whole
    run_cells(nano, again, clock=clock(), tell=told.append)
    assert told[0] == "1 of 6: full, kept"
    assert told[-1] == "6 of 6: divprune@25%, measured"
    expected = without_residence(summarise(measured))
    assert without_residence(summarise(again)) == expected
    assert without_residence(summarise(RunFolder.open(tmp_path))) == expected


def test_another_run_is_neither_overwritten_nor_gone_on_with(nano, measured):
    with pytest.raises(FoveateError, match="holds a run already"):
        start(nano, measured.path)
    with pytest.raises(FoveateError, match="items 4 there, 5 here"):
        start(nano, measured.path, replace(GRID, items=5), resume=True)
    with pytest.raises(FoveateError, match="quantisation none there, 43 layers in int8"):
        start(load(quantise="int8"), measured.path, resume=True)


def test_refused_methods_are_named_and_a_pooled_raster_stands_in(tmp_path):
    model = load(build_tiny("paligemma", tmp_path / "model"))
    grid = Grid(methods=("random", "downsample", "hired"), budgets=("50%",), families=("existence",), items=2)
    folder = start(model, tmp_path / "run", grid)
    assert folder.grid.methods == ("random", "average_pool", "hired")
    assert "tiles of one size" in folder.run["stands_in"]
    run_cells(model, folder)
    summary = write_report(folder)
    assert list(summary["refused"]) == ["hired@50%"]
    page = (folder.path / "report.html").read_text(encoding="utf-8")
    assert "hired@50%" in page
    assert summary["downsampling"] == "average_pool"
    assert {record["cell"] for record in summary["cells"]} == {
        "full",
        "no image",
        "random@50%",
        "average_pool@50%",
    }


def test_what_the_engine_does_not_serve_is_refused_with_its_own_reason(nano, tmp_path):
    grid = make_grid("smoke", methods=["fastv", "evs"], budgets=["25%"], families=["count"], items=1)
    folder = start(nano, tmp_path, grid)
    run_cells(nano, folder)
    assert set(folder.refused) == {"fastv@25%", "evs@25%"}
    assert "language model" in folder.refused["fastv@25%"]
    assert "video" in folder.refused["evs@25%"]


def test_where_text_stands_between_tiles_they_share_equally_and_the_run_says_so(tmp_path):
    model = load(build_tiny("smolvlm", tmp_path / "model"))
    grid = Grid(methods=("random", "average_pool"), budgets=("50%",), families=("existence",), items=1)
    folder = start(model, tmp_path / "run", grid)
    run_cells(model, folder)
    reread = RunFolder.open(folder.path)
    assert (reread.refused, reread.run["equal_tiles"]) == ({}, ["random@50%"])
    (item,) = reread.items
    row = reread.samples["random@50%", item][0]
    assert 0 < row["kept"] <= row["total"] / 2
    write_report(reread)
    page = (folder.path / "report.html").read_text(encoding="utf-8")
    assert "random@50%" in page.partition("share the budget among them equally")[2]


# -- the summary --------------------------------------------------------------------------------------------


def test_the_summary_says_what_the_samples_say(measured):
    rows = [json.loads(line) for line in (measured.path / "samples.jsonl").read_text("utf-8").splitlines()]
    summary = json.loads((measured.path / "summary.json").read_text(encoding="utf-8"))

    def right(cell, turn=1):
        mine = {row["item"]: row for row in rows if row["cell"] == cell and row["turn"] == turn}
        return {name: row["outcome"] == "right" for name, row in mine.items()}

    full = right("full")
    assert sum(full.values()) >= 6, "fovea-nano answers these questions, or nothing below is worth comparing"
    for record in summary["cells"]:
        found, turn = right(record["cell"]), record["turns"]["1"]
        assert turn["accuracy"] == pytest.approx(sum(found.values()) / 8)
        assert turn["interval"] == pytest.approx(wilson_interval(sum(found.values()), 8))
        ratios = []
        for family in GRID.families:
            own = [value for name, value in found.items() if name.startswith(family)]
            ratios.append(sum(own) / sum(value for name, value in full.items() if name.startswith(family)))
        assert turn["retained"] == pytest.approx(sum(ratios) / 2)
        second = right(record["cell"], 2)
        assert record["turns"]["2"]["accuracy"] == pytest.approx(sum(second.values()) / 4)
    for row in summary["comparisons"]:
        other = row["against"]
        other = other if other in ("full", "no image") else f"{other}@25%"
        mine, theirs = right(row["cell"], row["turn"]), right(other, row["turn"])
        assert row["difference"] == pytest.approx(sum(mine[n] - theirs[n] for n in mine) / len(mine))
        assert row["p_value"] <= row["holm"] <= 1
    assert len(summary["comparisons"]) == 2 * (4 + 4 + 3 + 3)


def test_costs_fall_with_the_tokens(measured):
    by_cell = {record["cell"]: record for record in summarise(measured)["cells"]}
    assert by_cell["fastervlm@25%"]["kept"] == 36
    assert by_cell["full"]["kept"] == by_cell["full"]["total"] == 144
    assert by_cell["fastervlm@25%"]["peak_blocks"] < by_cell["full"]["peak_blocks"]
    assert by_cell["fastervlm@25%"]["text"] == by_cell["full"]["text"]


def test_a_run_without_its_baselines_is_not_summed_up(nano, tmp_path):
    with pytest.raises(FoveateError, match="has not measured 'full' to the end"):
        summarise(start(nano, tmp_path))


def test_a_run_under_way_shows_what_is_done_and_names_the_rest(measured, tmp_path):
    run = json.loads((measured.path / "run.json").read_text(encoding="utf-8"))
    run["grid"]["budgets"] = ["25%", "50%"]
    (tmp_path / "run.json").write_text(json.dumps(run), encoding="utf-8")
    (tmp_path / "items.jsonl").write_bytes((measured.path / "items.jsonl").read_bytes())
    lines = (measured.path / "samples.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "samples.jsonl").write_text("".join(lines[:-1]), encoding="utf-8")
    summary = write_report(RunFolder.open(tmp_path))
    assert summary["unfinished"] == ["divprune@25%", *(f"{method}@50%" for method in GRID.methods)]
    assert list(summary["ties"]) == ["25%"]
    assert {row["cell"] for row in summary["comparisons"]} == {f"{m}@25%" for m in GRID.methods[:3]}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "fastervlm@50%" in page.partition("Not finished")[2]


# -- the report -----------------------------------------------------------------------------------------------


class _References(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.words = [], []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]
        assert tag not in ("script", "link", "iframe")

    def handle_data(self, data):
        self.words.append(data)


def test_the_report_needs_no_network(measured):
    page = (measured.path / "report.html").read_text(encoding="utf-8")
    reader = _References()
    reader.feed(page)
    assert len(reader.found) >= 2, "the plot and the gallery"
    assert all(reference.startswith("data:image/") for reference in reader.found)
    assert not re.search(r"url\(|@import|https?://", page)
    text = " ".join(reader.words)
    for words in ("divprune@25%", "Second turn", "Where methods disagree", "no image", "36"):
        assert words in text
    for name in ("pareto.png", "families.png"):
        assert (measured.path / name).read_bytes().startswith(b"\x89PNG")


def test_scoring_again_takes_no_model_and_follows_the_answers(measured, tmp_path, monkeypatch, capsys):
    def no_model(*arguments, **settings):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("foveate.models.load", no_model)
    monkeypatch.setattr("foveate.models.loading.load", no_model)
    for name in ("run.json", "items.jsonl"):
        (tmp_path / name).write_bytes((measured.path / name).read_bytes())
    rows = [json.loads(line) for line in (measured.path / "samples.jsonl").read_text("utf-8").splitlines()]
    for row in rows:
        if row["cell"] == "divprune@25%":
            row["reply"] = "no idea"
    packed = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (tmp_path / "samples.jsonl.gz").write_bytes(gzip.compress(packed))
    assert foveate(["bench", "report", str(tmp_path), "--json"]) == 0
    before = {record["cell"]: record for record in summarise(measured)["cells"]}
    after = {record["cell"]: record for record in json.loads(capsys.readouterr().out)["cells"]}
    assert after["divprune@25%"]["turns"]["1"]["unparsed"] == 8
    assert after["divprune@25%"]["turns"]["1"]["accuracy"] == 0
    assert after["fastervlm@25%"] == before["fastervlm@25%"] | {"turns": after["fastervlm@25%"]["turns"]}
    assert after["fastervlm@25%"]["turns"]["1"] == before["fastervlm@25%"]["turns"]["1"]


# -- the command line -----------------------------------------------------------------------------------------


def test_the_command_measures_prints_and_writes(tmp_path, capsys):
    place = tmp_path / "run"
    words = ["--methods", "divprune", "--budgets", "10%", "--families", "existence", "--items", "2"]
    assert foveate(["bench", *words, "--output", str(place)]) == 0
    out, err = capsys.readouterr()
    assert "divprune@10%" in out
    assert "5 of 5: divprune@10%, measured" in err
    run = json.loads((place / "run.json").read_text(encoding="utf-8"))
    assert run["command"].startswith("foveate bench --suite smoke --methods divprune")
    assert str(tmp_path) not in json.dumps(run)
    assert foveate(["bench", *words, "--output", str(place), "--resume", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["items"] == 2
    assert "5 of 5: divprune@10%, kept" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--methods", "fastervml"], "Did you mean 'fastervlm'"),
        (["--budgets", "101%"], "more than all tokens"),
        (["--suite", "smok"], "Did you mean 'smoke'"),
        (["report", "nowhere"], "holds no run of foveate bench"),
    ],
)
def test_the_command_refuses_in_one_line(words, says, capsys):
    assert foveate(["bench", *words]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


# -- many at once, and the plan -----------------------------------------------------------------------------


def test_speed_keeps_as_many_under_way_as_asked_and_goes_on_where_it_was(nano, measured, tmp_path):
    for name in ("run.json", "items.jsonl", "samples.jsonl"):
        (tmp_path / name).write_bytes((measured.path / name).read_bytes())
    folder = RunFolder.open(tmp_path)
    cells = cells_named(folder, ["fastervlm@25%"])
    assert [cell.name for cell in cells] == ["full", "fastervlm@25%"]
    with pytest.raises(FoveateError, match="Did you mean 'fastervlm@25%'"):
        cells_named(folder, ["fastervlm@52%"])
    run_speed(nano, folder, cells[:1], clock=clock(), requests=8, repeats=1)
    run_speed(nano, RunFolder.open(tmp_path), cells, clock=clock(), requests=8, repeats=1)
    lines = (tmp_path / "speed.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2 * 3, "what was measured before is not measured again"
    speed = RunFolder.open(tmp_path).speed
    assert all(row["requests"] == 8 and row["preemptions"] == 0 for row in speed.values())
    for cell in ("full", "fastervlm@25%"):
        held = [speed[cell, n]["peak_cache_bytes"] for n in (1, 8, 32)]
        assert held[0] < held[1] <= held[2]
    assert speed["fastervlm@25%", 8]["peak_cache_bytes"] < speed["full", 8]["peak_cache_bytes"]
    summary = write_report(folder := RunFolder.open(tmp_path))
    assert len(summary["speed"]) == 6
    assert "Many at once" in (folder.path / "report.html").read_text(encoding="utf-8")


def test_a_plan_takes_the_cheapest_within_the_margin_or_the_best_within_the_compute(measured):
    everything = plan([measured], margin=1.0, method="divprune")
    assert everything["recommended"]["cell"] == "divprune@25%"
    assert everything["recommended"]["compute"] == pytest.approx(
        2 * everything["recommended"]["billions"] * (36 + everything["recommended"]["text"])
    )
    strict = plan([measured], margin=0.0, method="downsample")
    assert strict["recommended"]["cell"] == "full"
    full_cost = strict["recommended"]["compute"]
    assert plan([measured], compute=full_cost, method="downsample")["recommended"]["cell"] == "full"
    less = plan([measured], compute=0.9 * full_cost, method="downsample")
    assert less["recommended"]["cell"] == "downsample@25%"
    assert less["law"].startswith("not fitted: it needs runs of two model sizes")
    with pytest.raises(FoveateError, match="No measured choice costs at most"):
        plan([measured], compute=1e-6)
    with pytest.raises(FoveateError, match="Did you mean 'divprune'"):
        plan([measured], method="divprun")


def test_a_plan_over_two_sizes_finds_the_law_that_made_the_errors(measured, monkeypatch):
    """Runs whose errors follow a known law: the plan must find its exponents and spend compute by them."""
    law = ScalingLaw(scale=0.4, alpha=0.3, beta=0.1, floor=0.0)

    def follows_the_law(folder):
        found = summarise(folder)
        for record in found["cells"]:
            turn = record["turns"]["1"]
            tokens = record["kept"] + record["text"]
            turn["accuracy"] = 1 - float(law.error(folder.run["model"]["language_parameters"] / 1e9, tokens))
        return found

    monkeypatch.setattr("foveate.evaluate.bench.planning.summarise", follows_the_law)
    folders = []
    for billions in (0.5, 2.0, 7.0):
        folder = RunFolder.open(measured.path)
        folder.run["model"]["language_parameters"] = int(billions * 1e9)
        folders.append(folder)
    found = plan(folders, compute=2 * 2.0 * 200, method="fastervlm")
    assert found["law"]["alpha"] == pytest.approx(0.3, abs=0.01)
    assert found["law"]["beta"] == pytest.approx(0.1, abs=0.01)
    assert found["law"]["recommended"]["billions"] == 7.0
    assert found["law"]["recommended"]["visual_tokens"] == 36


def test_the_plan_is_printed(measured, capsys):
    assert foveate(["bench", "plan", str(measured.path), "--method", "fastervlm"]) == 0
    out, err = capsys.readouterr()
    assert "fastervlm@25%" in out
    assert "Take " in out
    assert "not fitted" in err
