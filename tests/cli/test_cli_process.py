"""What the process does before any model is touched: imports, exit codes, one error line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal_driver import child_environment

from foveate.cli.verbs import VERBS, available, load_verb

Runner = Callable[..., "subprocess.CompletedProcess[str]"]
HEAVY = ("torch", "transformers", "numpy", "PIL", "rich", "huggingface_hub", "foveate.cli.chat")


def assert_refused(done: subprocess.CompletedProcess[str], *says: str, code: int = 2) -> None:
    """Exit code 2 and exactly one line on stderr that says all of this."""
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("foveate: error: ")
    assert "Traceback" not in done.stderr + done.stdout
    for part in says:
        assert part in done.stderr, (part, done.stderr)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from foveate.cli.main import run; run(['--help']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=child_environment(), check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [("ls",), ("ls", "--families"), ("chat", "--help")])
def test_these_need_no_torch(arguments: tuple[str, ...]) -> None:
    code = (
        f"import sys; from foveate.cli.main import run; run({list(arguments)!r}); "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=child_environment(), check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", available())
def test_every_listed_verb_loads_and_helps(verb: str) -> None:
    command = load_verb(verb)
    assert command.name == verb
    assert command.help


def test_the_table_points_into_this_room() -> None:
    for name, verb in VERBS.items():
        assert verb.module == f"foveate.cli.{name.replace('-', '_')}"
        assert verb.help.endswith(".")


def test_no_verb_shows_help_and_version_is_told(foveate: Runner) -> None:
    done = foveate()
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: foveate")
    assert foveate("--version").stdout.startswith("foveate 0.")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("cht",), ("unknown verb 'cht'", "Did you mean 'chat'?")),
        (("--vresion",), ("unknown flag '--vresion'", "Did you mean '--version'?")),
        (("chat", "--imge", "cat.png"), ("unknown flag '--imge'", "Did you mean '--image'?")),
        (("ls", "--familes"), ("unknown flag '--familes'", "Did you mean '--families'?")),
        (("cat.png", "What is this?"), ("unknown verb 'cat.png'", "foveate chat IMAGE")),
        (("chat", "--max-tokens", "many", "hello"), ("--max-tokens", "foveate chat --help")),
        (("chat", "--max-tokens", "0", "hello"), ("--max-tokens is 0", "1 or more")),
        (("chat", "--top-p", "0", "hello"), ("--top-p", "above 0")),
        (("chat", "--temperature", "-1", "hello"), ("--temperature is -1",)),
        (("chat", "--dtype", "int3", "hello"), ("--dtype", "int3", "bfloat16")),
        (("chat", "--model"), ("--model",)),
        (("chat", "dog.png", "What is this?"), ("no picture 'dog.png'", "looked in")),
        (("chat", "--image", "dog.png", "What is this?"), ("no picture 'dog.png'",)),
        (("chat", "What is in dog.png here?"), ("no picture 'dog.png'", "backticks")),
        (("chat", "how", "many"), ("'how'", "quotes")),
        (("chat", "./no-such-model", "hello"), ("no model folder './no-such-model'", "foveate ls")),
        (("chat",), ("no question", "standard input is empty")),
        (("chat", "   "), ("no question",)),
        (("chat", "-", "-", "What?"), ("standard input holds one picture",)),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    foveate: Runner, tmp_path: Path, arguments: tuple[str, ...], says: tuple[str, ...]
) -> None:
    done = foveate(*arguments, cwd=tmp_path)
    assert_refused(done, *says)
    assert done.stdout == ""


def test_a_picture_in_place_of_the_question_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "foveate.cli", "chat"],
        input=b"\x89PNG\r\n\x1a\n\xff\xfe",
        capture_output=True,
        env=child_environment(),
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"foveate: error: standard input is not text")


def test_a_narrow_output_encoding_is_no_error() -> None:
    program = Path(__file__).with_name("fake_model.py")
    done = subprocess.run(
        [sys.executable, str(program), "chat", "naïve ✓"],
        capture_output=True,
        env=child_environment(PYTHONUTF8="0", PYTHONIOENCODING="ascii"),
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"turn 1, 0 pictures: na\\xefve \\u2713" in done.stdout


def test_json_mode_puts_the_error_on_stdout_too(foveate: Runner, tmp_path: Path) -> None:
    done = foveate("chat", "dog.png", "What is this?", "--json", cwd=tmp_path)
    assert_refused(done, "no picture 'dog.png'")
    error = json.loads(done.stdout)["error"]
    assert error["type"] == "MediaError"
    assert error["what"] == "no picture 'dog.png'"
    assert set(error) == {"type", "message", "what", "why", "fix"}
    assert done.stderr == f"foveate: error: {error['message']}\n"
    usage = foveate("chat", "--imge", "--json")
    assert json.loads(usage.stdout)["error"]["what"] == "unknown flag '--imge'"


@pytest.mark.parametrize("place", [0, 3])
def test_debug_shows_the_traceback_wherever_it_stands(foveate: Runner, tmp_path: Path, place: int) -> None:
    words = ["chat", "dog.png", "What is this?"]
    words.insert(place, "--debug")
    done = foveate(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("foveate: error: no picture")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=child_environment(), check=False
    )


def patched(statement: str, *arguments: str) -> str:
    """A program that runs `foveate ls` with its command body replaced."""
    return (
        "import sys, foveate.cli.ls as ls\nfrom foveate.cli.main import run\n"
        f"def command() -> None:\n    {statement}\n"
        f"ls.command = command\nsys.exit(run({['ls', *arguments]!r}))"
    )


def test_an_unexpected_failure_is_one_line_and_exit_code_1() -> None:
    done = run_python(patched("raise RuntimeError('first line\\nsecond line')"))
    assert_refused(done, "RuntimeError: first line second line", "--debug", code=1)


def test_ctrl_c_is_quiet_and_130() -> None:
    done = run_python(patched("raise KeyboardInterrupt"))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_reader_that_leaves_is_no_error() -> None:
    program = patched("[print('x' * 1000, flush=True) for _ in range(10000)]")
    writer = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(),
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.readline()
    writer.stdout.close()
    assert writer.stderr.read() == b""
    writer.stderr.close()
    assert writer.wait(timeout=30) == 141


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("matplotlib", ("'matplotlib'", "pip install 'foveate[train]'")),
        ("prometheus_client.core", ("'prometheus-client'", "pip install 'foveate[serve]'")),
    ],
)
def test_a_missing_extra_names_its_install_line(module: str, says: tuple[str, ...]) -> None:
    done = run_python(patched(f"raise ModuleNotFoundError('No module named x', name={module!r})"))
    assert_refused(done, *says)


def test_a_missing_module_of_no_extra_is_our_own_fault() -> None:
    done = run_python(patched("import foveate.no_such_room"))
    assert_refused(done, "foveate.no_such_room", "--debug", code=1)


@pytest.mark.parametrize("verb", [name for name in available() if hasattr(load_verb(name), "commands")])
def test_a_verb_with_verbs_of_its_own_shows_them(foveate: Runner, verb: str) -> None:
    done = foveate(verb)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: foveate {verb}")
    assert_refused(foveate(verb, "nonsense"), "nonsense")
