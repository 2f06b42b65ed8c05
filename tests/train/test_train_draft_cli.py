"""`foveate train draft` as a user runs it: on a target and prompts of one's own, resumed, and what is refused."""

from __future__ import annotations

import json

import pytest
import tiny

from foveate.cli.main import run


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    return tiny.build_tiny("llava", tmp_path_factory.mktemp("target"))


@pytest.fixture
def prompts(tmp_path):
    tiny.picture(56, 56, 1).save(tmp_path / "a.png")
    path = tmp_path / "prompts.jsonl"
    rows = [{"image": "a.png", "prompt": f"what colour is number {number}"} for number in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def words(target, prompts, out, *more):
    given = ["train", "draft", target, "--out", out, "--data", prompts, "--held-out", prompts]
    given += ["--batch-size", 2, "--round-size", 4, "--reply-tokens", 6, "--dtype", "float32", "--json"]
    return [str(word) for word in (*given, "--device", "cpu", "--threads", 1, *more)]


def test_a_head_for_a_target_and_prompts_of_one_s_own(target, prompts, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(words(target, prompts, out, "--steps", 1, "--compress", "pool:4")) == 0
    assert run(words(target, prompts, out, "--steps", 3, "--compress", "pool:4")) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == [0, 1, 3], "the second went on"
    last = lines[-1]
    assert last["head"] == str(out / "head") and (out / "training.png").stat().st_size > 10_000
    whole = [row for row in last["evaluation"] if row["kind"] == "all"]
    assert {(row["draft"], row["temperature"]) for row in whole} == {
        (draft, temperature) for draft in ("chain of 5", "tree of 24, 6 deep") for temperature in (0.0, 1.0)
    }
    assert all(row["prompts"] == 3 and row["accepted_length"] >= 1 for row in whole)
    saved = json.loads((out / "head" / "config.json").read_text())
    assert saved["draft_head"]["compressor"]["mode"] == "pool"
    assert (
        run(["chat", "--speculate", str(out / "head"), "--model", str(target), "Say.", "--device", "cpu"])
        == 0
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--kind", "eagle4"], "eagle3"),
        (["--compress", "pol:4"], "pool"),
        (["--batch-size", "3"], "no whole number of batches of 3"),
        (["--data", "none.jsonl"], "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(target, prompts, tmp_path, capsys, change, says):
    assert run([*words(target, prompts, tmp_path / "run", "--steps", 1), *change]) == 2
    error = capsys.readouterr().err
    assert error.startswith("foveate: error: ") and says in error and error.count("\n") == 1


def test_prompts_to_learn_from_need_prompts_to_validate_on(target, prompts, tmp_path, capsys):
    assert run(["train", "draft", str(target), "--out", str(tmp_path), "--data", str(prompts)]) == 2
    assert "--held-out" in capsys.readouterr().err
