"""The server from outside: start it, ask about a picture at two visual budgets, draw what was looked at, stop it.

Run: python examples/demo.py [PICTURE] [QUESTION]        (make demo runs it; writes demo-kept.png)

Everything here is what a client in another process, on another machine or in another language can do: the requests
go through the official `openai` client, and the overlay is drawn from the reply alone.
"""

from __future__ import annotations

import base64
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import openai
from PIL import Image, ImageEnhance

HERE = Path(__file__).parent
BUDGETS = ("full", "25%")
STARTING, STOPPING = 120, 30  # seconds


def start() -> tuple[subprocess.Popen[str], str]:
    """A server on a free port, and its address as it prints it."""
    command = [sys.executable, "-m", "foveate.cli", "serve", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    for line in server.stdout:
        found = re.search(r"http://\S+", line)
        if found:
            return server, found[0]
    raise SystemExit(f"the server ended with status {server.wait()} before it listened")


def wait_until_ready(client: openai.OpenAI) -> None:
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline:
        try:
            client.models.list()
            return
        except openai.APIConnectionError:
            time.sleep(0.1)
    raise SystemExit(f"the server did not answer within {STARTING} s")


def ask(client: openai.OpenAI, picture: Path, question: str, budget: str) -> Any:
    data = base64.b64encode(picture.read_bytes()).decode()
    content: list[Any] = [
        {"type": "image_url", "image_url": {"url": f"data:image/{picture.suffix[1:]};base64,{data}"}},
        {"type": "text", "text": question},
    ]
    return client.chat.completions.create(
        model=client.models.list().data[0].id,
        messages=[{"role": "user", "content": content}],
        extra_body={"visual_budget": budget, "foveate_trace": True},  # ours, beside the standard fields
    )


def overlay(picture: Path, looked_at: dict[str, Any]) -> Image.Image:
    """Dropped places dimmed; boxes are in the picture's own pixels, ids count along the rows of a tile."""
    bright = Image.open(picture).convert("RGB")
    seen = ImageEnhance.Brightness(bright).enhance(0.25)
    for tile in looked_at["tiles"]:
        left, top, right, bottom = tile["box"]
        rows, columns = tile["grid"]
        high, wide = (bottom - top) / rows, (right - left) / columns
        for place in tile["kept"]:
            row, column = divmod(place, columns)
            box = (left + column * wide, top + row * high, left + (column + 1) * wide, top + (row + 1) * high)
            corner = tuple(round(edge) for edge in box)
            seen.paste(bright.crop(corner), corner[:2])
    return seen


def main() -> None:
    picture = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "shapes.png"
    question = sys.argv[2] if len(sys.argv) > 2 else "What colour is the star?"
    print(f"{picture.name}: {question}")
    server, address = start()
    try:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none is needed here", max_retries=0)
        wait_until_ready(client)
        print(f"a server at {address}")
        ask(
            client, HERE / "words.png", "What is this?", "full"
        )  # a first request pays for what is loaded late
        for budget in BUDGETS:
            reply = ask(client, picture, question, budget)
            trace = reply.model_extra["foveate_trace"]
            [looked_at], times = trace["images"], trace["times"]
            print(
                f"  {budget:>4}: {reply.choices[0].message.content!r}   "
                f"{looked_at['tokens_kept']} of {looked_at['tokens']} visual tokens · "
                f"first token {1e3 * times['first_token']:.0f} ms, all {1e3 * times['total']:.0f} ms"
            )
        target = Path("demo-kept.png")
        overlay(picture, looked_at).save(target)
        print(f"what {BUDGETS[-1]} looked at is in {target}")
    finally:
        server.send_signal(signal.SIGTERM)
        status = server.wait(timeout=STOPPING)
    print(f"the server stopped with status {status}")


if __name__ == "__main__":
    main()
