"""Requests made from the server's own schema, good and bad ones; and the JavaScript client, which reads it its way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from live_server import PICTURE, LiveServer

NPM_CLIENT = "openai@7.57.0"
SCRIPT = Path(__file__).with_name("npm_client.mjs")


def test_the_server_keeps_its_schema(server: LiveServer, tmp_path: Path) -> None:
    """No 500, no undocumented status or form, no bad request let in."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{server.url}/openapi.json",
            # What JSON Schema cannot say is refused too: too many tokens, a model or picture that is not there.
            *("--exclude-checks", "positive_data_acceptance"),
            *("--phases", "coverage,fuzzing", "--mode", "all", "--max-examples", "3", "--seed", "1"),
            "--no-color",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    server.eventually(server.nothing_held)


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the npm package `openai`."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
    done = subprocess.run([*command, NPM_CLIENT], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm cannot install {NPM_CLIENT}: {done.stderr[-200:]}")
    return folder


def test_the_javascript_client_gets_the_same(server: LiveServer, node_modules: Path, picture: str) -> None:
    script = node_modules / "client.mjs"
    script.write_text(SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
    question = "List every object with its place."
    done = subprocess.run(
        ["node", str(script), f"{server.url}/v1", str(PICTURE), question], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    message = [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": picture}},
                {"type": "text", "text": question},
            ],
        }
    ]
    expected = server.chat(message).json()["choices"][0]["message"]["content"]
    assert told["whole"] == told["streamed"] == told["uploaded"] == expected
    assert told["kept"] == 36 and told["tokens"] == 144
    assert told["schema"]["n"] in range(10)
    assert told["tool"] == "paint" and told["arguments"]["colour"] in ("red", "blue")
    assert (told["status"], told["code"], told["param"]) == (400, "unknown_parameter", "temprature")
    assert told["models"] == ["fovea-nano"]
    server.eventually(server.nothing_held)  # the stream that it left early too
