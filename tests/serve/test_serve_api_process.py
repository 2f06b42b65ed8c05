"""`foveate serve` as a process: one printed URL, probes, and how it stops."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from foveate.cli.main import run
from foveate.cli.verbs import load_verb
from foveate.serve.safety.keys import KeyStore
from foveate.serve.settings import ServeSettings

LONG = {
    "messages": [{"role": "user", "content": "Hello"}],
    "ignore_eos": True,
    "max_tokens": 700,
    "stream": True,
}


@contextmanager
def serving(*flags: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process and the address that it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "foveate.cli", "serve", "--port", "0", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        if found is None:
            process.wait(20)
            pytest.fail(f"no address: {line!r} {process.stderr.read() if process.stderr else ''}")
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


def test_a_stopping_server_finishes_what_it_began() -> None:
    with serving("--drain-seconds", "60", FOVEATE_MODEL_NAME="eye") as (process, url):
        assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "eye"
        assert httpx.get(f"{url}/ready").json() == {"status": "ok", "reason": None}
        told: dict[str, Any] = {}

        def read(reply: httpx.Response) -> None:
            told["lines"] = list(reply.iter_lines())

        with httpx.Client(base_url=url, timeout=60) as client:
            request = client.build_request("POST", "/v1/chat/completions", json=LONG)
            reply = client.send(request, stream=True)
            reader = threading.Thread(target=read, args=(reply,))
            reader.start()
            process.send_signal(signal.SIGTERM)
            refused = None
            for _ in range(200):
                probe = httpx.get(f"{url}/ready")
                if probe.status_code == 503:
                    refused = httpx.post(f"{url}/v1/chat/completions", json=LONG)
                    break
                time.sleep(0.01)
            reader.join(60)
        assert refused is not None and refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert told["lines"][-2] == "data: [DONE]"
        assert any('"finish_reason":"length"' in line for line in told["lines"])
        assert process.wait(20) == 0


def test_what_lasts_longer_than_the_drain_is_cut_off_with_a_word() -> None:
    with serving("--drain-seconds", "0") as (process, url), httpx.Client(base_url=url, timeout=60) as client:
        with client.stream("POST", "/v1/chat/completions", json=LONG) as reply:
            lines = reply.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            rest = list(lines)
        assert any("server_stopping" in line for line in rest)
        assert process.wait(20) == 0


def test_a_port_in_use_is_told_before_a_model_is_loaded() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "foveate.cli", "serve", "no/such-model", "--port", port],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 2 and f"port {port}" in done.stderr and "--port 0" in done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--port", "70000"], "0 to 65535"),
        (["--visual-budget", "0"], "keeps no token"),
        (["--reducer", "fastvlm"], "Did you mean 'fastervlm'?"),
        (["--allowed-origins", "*"], "origins by name"),
    ],
)
def test_settings_are_checked_before_anything_else(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", "no/such-model", *flags]) == 2
    assert words in capsys.readouterr().err


def test_a_new_key_opens_the_server_that_knows_its_entry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", "--new-key", "web"]) == 0
    told = capsys.readouterr()
    file = tmp_path / "keys.toml"
    file.write_text(told.out, encoding="utf-8")
    key = told.err.split()[-1]
    assert key not in told.out
    caller = KeyStore.load(file).authenticate(f"Bearer {key}")
    assert caller is not None and caller.name == "web"


def test_every_setting_has_a_flag_and_a_variable() -> None:
    flags = {parameter.name: parameter for parameter in load_verb("serve").params}
    for entry in dataclasses.fields(ServeSettings):
        assert flags[entry.name].envvar == f"FOVEATE_{entry.name.upper()}"
        assert flags[entry.name].help == entry.metadata["help"]
