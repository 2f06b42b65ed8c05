"""`foveate ps`: servers that live, how busy they are, and none that is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from foveate.cli import ps
from foveate.serve.running import folder, listed, running_servers

METRICS = 'foveate:num_requests_running 3.0\nfoveate:num_requests_waiting 2.0\nfoveate:other{a="b"} 1.0\n'


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


class Handler(BaseHTTPRequestHandler):
    """Answers as a server that is stopping, with work left."""

    def do_GET(self) -> None:
        stopping = self.path == "/ready"
        body = b'{"status":"not ready","reason":"the server is stopping"}' if stopping else METRICS.encode()
        self.send_response(503 if stopping else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_is_listed_from_when_it_listens_to_its_end() -> None:
    with listed("http://127.0.0.1:1", "eye") as show:
        assert running_servers() == []
        show()
        (server,) = running_servers()
        assert (server.url, server.model, server.pid) == ("http://127.0.0.1:1", "eye", os.getpid())
    assert running_servers() == [] and list(folder().iterdir()) == []


def test_its_figures_come_from_itself(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with listed(url, "eye") as show:
        show()
        ps.command(as_json=True)
        (state,) = json.loads(capsys.readouterr().out)["servers"]
        ps.command()
    assert (state["running"], state["waiting"], state["state"]) == (3, 2, "the server is stopping")
    assert state["memory"] > 10 * 2**20 and 0 <= state["uptime"] < 60
    header, row = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["model", "address", "pid"]
    assert row.split()[:3] == ["eye", url, str(os.getpid())]


def test_one_that_does_not_answer_is_shown_with_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    with listed("http://127.0.0.1:1", "eye") as show:
        show()
        ps.command(as_json=True)
    (state,) = json.loads(capsys.readouterr().out)["servers"]
    assert state["state"] == "does not answer" and state["running"] is None


def test_what_a_killed_server_left_behind_is_cleared_away() -> None:
    code = (
        "import sys; from foveate.serve.running import listed\n"
        "with listed('http://127.0.0.1:1', 'eye') as show: show(); print('shown', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"shown\n"
        assert [server.pid for server in running_servers()] == [process.pid]
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert len(list(folder().glob("*.json"))) == 1
    assert running_servers() == []
    assert list(folder().glob("*.json")) == []


def test_files_of_others_are_left_alone_and_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    with listed("http://127.0.0.1:1", "eye") as show:
        show()
        (path,) = folder().glob("*.json")
        path.write_text('{"url": 1}')  # the same file, still locked
        assert running_servers() == []
    assert "is no server's file" in caplog.text


def test_a_folder_that_cannot_be_written_costs_the_listing_alone(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (cache / "foveate").write_text("a file where the folder would be")
    with listed("http://127.0.0.1:1", "eye") as show:
        show()
    assert "foveate ps will not show this server" in caplog.text


def test_it_is_fast_and_loads_no_torch(foveate: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = foveate("ps", XDG_CACHE_HOME="/nowhere")
    assert done.returncode == 0 and "foveate serve" in done.stderr and done.stdout == ""
    code = "import sys; import foveate.cli.ps; print({'torch', 'fastapi', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (86400 * 3 + 4 * 3600, "3 d 4 h")],
)
def test_time_spans_read_well(seconds: float, words: str) -> None:
    assert ps.duration(seconds) == words
