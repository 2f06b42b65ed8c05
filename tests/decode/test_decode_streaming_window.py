"""The window of a stream without any tensors: the bound holds, order and sinks stay, pages come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from foveate.decode.streaming.settings import StreamError, StreamSettings, bound_of
from foveate.decode.streaming.window import Kind, PagePool, StreamWindow

TURN = 7

small = st.builds(
    StreamSettings,
    vision_seconds=st.integers(1, 4),
    text_tokens=st.integers(0, 12),
    sink_tokens=st.integers(0, 9),
    reply_tokens=st.integers(1, 6),
    question_tokens=st.integers(1, 5),
    answer_tokens=st.integers(1, 5),
    page_tokens=st.integers(1, 5),
)
# A second: how much later than the one before, tokens of its turn, of its reply, and of a question or None.
second = st.tuples(st.integers(1, 6), st.integers(1, TURN), st.integers(0, 6), st.none() | st.integers(1, 10))


def check(window: StreamWindow, pool: PagePool) -> None:
    slots, indices = window.slots(), window.indices()
    assert len(set(slots)) == len(slots), "two tokens in one slot"
    assert indices == sorted(indices), "order of arrival"
    size = window.settings.page_tokens
    assert {slot // size for slot in slots} <= set(window.pages())
    assert pool.in_use == len(set(window.pages()))


@given(small, st.integers(0, 9), st.lists(second, min_size=1, max_size=25))
@hypothesis_settings(max_examples=150, deadline=None)
def test_never_above_the_bound_and_sinks_never_leave(settings, prefix, seconds):
    limit = bound_of(settings, turn_tokens=TURN, token_bytes=1)
    pool = PagePool(limit.pages)
    window = StreamWindow(settings, pool)
    window.append(Kind.TEXT, list(range(min(prefix, settings.sink_tokens))), 0)
    texts, now = list(range(len(window))), 0
    for gap, turn, reply, question in seconds:
        now += gap
        window.evict(now)
        window.append(Kind.TURN, [-1] * turn, now, (now,))
        for token in range(min(reply, settings.reply_tokens)):
            window.append(Kind.TEXT, [1000 * now + token], now)
            texts.append(1000 * now + token)
        check(window, pool)
        assert len(window) <= limit.tokens
        kept = [token for token in window.tokens() if token >= 0]
        assert kept[: settings.sink_tokens] == texts[: settings.sink_tokens]
        newest = texts[settings.sink_tokens :][-settings.text_tokens - settings.reply_tokens :]
        rest = kept[settings.sink_tokens :]
        assert rest == newest[len(newest) - len(rest) :], "the newest of the text, without holes"
        assert len(rest) >= min(settings.text_tokens, len(texts) - settings.sink_tokens)
        assert window.media() == [one for one in window.media() if one > now - settings.vision_seconds]
        assert window.media()[-1] == now
        if question is not None:
            before = (window.tokens(), window.slots(), window.indices(), sorted(window.pages()))
            fork = window.fork()
            room = settings.question_tokens + settings.answer_tokens
            taken = fork.append(Kind.TEXT, list(range(min(question, room))), now)
            assert not set(taken) & set(window.slots()) and fork.tokens()[: len(window)] == before[0]
            fork.close()
            assert before == (window.tokens(), window.slots(), window.indices(), sorted(window.pages()))
    assert pool.most_in_use <= limit.pages
    window.close()
    assert pool.in_use == 0


def test_a_second_of_vision_leaves_with_whole_pages_and_the_oldest_first():
    settings = StreamSettings(vision_seconds=2, text_tokens=3, sink_tokens=2, reply_tokens=2, page_tokens=4)
    pool = PagePool(bound_of(settings, turn_tokens=6, token_bytes=1).pages)
    window = StreamWindow(settings, pool)
    window.append(Kind.TEXT, [1, 2], 0)
    for now in range(4):
        window.evict(now)
        window.append(Kind.TURN, [-now] * 6, now, (now,))
        window.append(Kind.TEXT, [10 * now + 11, 10 * now + 12], now)
    # Text was cut to three tokens before the last second came; its own reply stands on top of that.
    expected = [1, 2, 22, *[-2] * 6, 31, 32, *[-3] * 6, 41, 42]
    assert window.tokens() == expected
    assert window.media() == [2, 3]
    before = pool.in_use
    assert window.evict(5) >= 6, "second 2 and 3 are out of the window of seconds 4 and 5"
    assert window.media() == [] and pool.in_use <= before - 4


def test_a_fork_keeps_pages_that_the_stream_has_given_up():
    settings = StreamSettings(vision_seconds=1, text_tokens=2, sink_tokens=0, page_tokens=2)
    pool = PagePool(40)
    window = StreamWindow(settings, pool)
    window.append(Kind.TURN, [5] * 4, 0)
    fork = window.fork()
    held = set(fork.pages())
    window.evict(9)
    window.append(Kind.TURN, [6] * 4, 9)
    assert not held & set(window.pages()), "its past was handed out again"
    fork.close()
    window.close()
    assert pool.in_use == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vision_seconds": 0}, "vision_seconds is 0"),
        ({"sink_tokens": -1}, "sink_tokens is -1"),
        ({"positions": "contigous"}, "Did you mean 'contiguous'"),
        ({"text_tokens": None}, "has no bound"),
    ],
)
def test_settings_out_of_range_are_told(changes, words):
    with pytest.raises(StreamError, match=words):
        StreamSettings(**changes)


def test_a_window_larger_than_memory_or_context_is_refused_with_both_numbers():
    limit = bound_of(StreamSettings(), turn_tokens=150, token_bytes=12_288)
    with pytest.raises(StreamError, match=r"MiB of keys and values: 1\.0 MiB are left"):
        limit.require(memory=2**20, context=10**6)
    with pytest.raises(StreamError, match=r"860 tokens.*context is 512"):
        limit.require(memory=2**40, context=512)
    limit.require(memory=limit.bytes, context=limit.positions)
