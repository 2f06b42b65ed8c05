"""The load generator of the server's benchmark: times and words are read from the bytes as they came."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from serve_parts import client

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def event(data: bytes) -> bytes:
    line = b"data: " + data + b"\n\n"
    return f"{len(line):x}\r\n".encode() + line + b"\r\n"


ROLE = event(b'{"choices":[{"delta":{"role":"assistant","content":""}}]}')
WORDS = event(b'{"choices":[{"delta":{"content":"two"}}]}')
MORE = event(b'{"choices":[{"delta":{"content": " words"}}]}')
USAGE = event(b'{"choices":[],"usage":{"completion_tokens":2}}')
END = event(b"[DONE]") + b"0\r\n\r\n"


def test_the_first_words_are_timed_and_not_the_first_bytes() -> None:
    reply = client.read_reply([(1.0, HEAD), (2.0, ROLE), (3.0, WORDS), (4.0, MORE + USAGE), (5.0, END)])
    assert reply == client.Reply(text="two words", tokens=2, first=3.0, seconds=5.0)


def test_an_event_that_comes_in_two_pieces_is_timed_by_its_words() -> None:
    cut = WORDS.index(b'"two"')
    reply = client.read_reply([(1.0, HEAD + WORDS[:cut]), (2.0, WORDS[cut:] + USAGE + END)])
    assert (reply.first, reply.text) == (2.0, "two")


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 429 Too Many Requests\r\n\r\n" + b'{"error":{"message":"full"}}',
        HEAD + WORDS + event(b'{"error":{"message":"the model failed"}}'),
        b"",
    ],
)
def test_errors_are_no_measurements(raw: bytes) -> None:
    with pytest.raises(client.LoadError):
        client.read_reply([(1.0, raw)] if raw else [])


def test_a_closed_loop_keeps_as_many_in_flight_as_it_is_told_and_the_order_of_answers() -> None:
    flying, most = 0, 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal flying, most
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0.02 if body == b"0" else 0.01)
        flying -= 1
        writer.write(HEAD + event(b'{"choices":[{"delta":{"content":"%s"}}]}' % body) + USAGE + END)
        writer.close()

    async def run() -> list[client.Reply]:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await client.closed_loop(port, [str(number).encode() for number in range(9)], 3)

    replies = asyncio.run(run())
    assert [reply.text for reply in replies] == [str(number) for number in range(9)]
    assert most == 3
