"""OpenMP teams: only the thread that steps keeps one."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from foveate.engine.threads import _openmp, release_team, use_one_thread

pytestmark = pytest.mark.skipif(
    _openmp() is None or not Path("/proc/self/task").is_dir(),
    reason="needs OpenMP 5 and Linux' list of threads",
)


def threads() -> int:
    """Of this process, once their number stands still: threads that end are counted for a moment."""
    found = [0]
    for _ in range(200):
        found.append(len(list(Path("/proc/self/task").iterdir())))
        if len(set(found[-5:])) == 1:
            break
        time.sleep(0.01)
    return found[-1]


def workers_after(*calls: Callable[[], object]) -> int:
    """How many threads more there are behind these calls, made in a thread that still lives."""
    before = threads()
    done, go_on, after = threading.Event(), threading.Event(), []

    def work() -> None:
        for call in calls:
            call()
        done.set()
        go_on.wait(20)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert done.wait(20)
        after.append(threads())
    finally:
        go_on.set()
        thread.join()
    return after[0] - before - 1


def parallel() -> None:
    torch.randn(1 << 20).add_(1)


@pytest.fixture
def two_threads() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_team_is_given_back(two_threads: object) -> None:
    assert workers_after(parallel) == 1
    assert workers_after(parallel, release_team) == 0
    assert workers_after(parallel, release_team, parallel) == 1


def test_a_pool_may_do_without_and_others_keep_theirs(two_threads: object) -> None:
    assert workers_after(use_one_thread, parallel) == 0
    with ThreadPoolExecutor(1, initializer=use_one_thread) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == 2 and workers_after(parallel) == 1


def test_without_such_a_library_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str) -> ctypes.CDLL:
        raise OSError("no such library")

    _openmp.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    try:
        release_team()
        use_one_thread()
        assert _openmp() is None
    finally:
        _openmp.cache_clear()
