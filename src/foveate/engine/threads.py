"""Threads of ours beside the one that steps, kept from slowing it down.

Every thread that runs a parallel region of torch's keeps a team of OpenMP workers for life. GNU's OpenMP lets a team
wait for its slowest member on the processor only while all teams together are no more threads than cores; beyond that
members sleep at every barrier, and a step of many short products takes nearly twice as long. So the steps' team must be
the only one: threads that prepare run alone, and a thread that loaded a model gives its team back. Knows no engine.
"""

from __future__ import annotations

import ctypes
import logging
from functools import lru_cache

import torch

_log = logging.getLogger(__name__)
_SOFT_PAUSE = 1  # omp_pause_soft (OpenMP 5.0 §3.2.44): threads are given back, settings stay


@lru_cache(maxsize=1)
def _openmp() -> ctypes.CDLL | None:
    """The OpenMP library that torch runs on; None where there is none, or one before OpenMP 5."""
    try:
        library = ctypes.CDLL(torch._C.__file__)  # looks its names up in what it was linked with, too
        library.omp_set_num_threads, library.omp_pause_resource_all  # noqa: B018 - raises where it is missing
    except (AttributeError, OSError) as error:
        _log.info("threads keep their OpenMP teams: %s", error)
        return None
    return library


def release_team() -> None:
    """Ends the calling thread's OpenMP workers; its next parallel region makes new ones."""
    if (library := _openmp()) is not None:
        library.omp_pause_resource_all(_SOFT_PAUSE)


def use_one_thread() -> None:
    """Torch runs on the calling thread alone from here on, others are not affected: an initializer of pools."""
    if (library := _openmp()) is not None:
        torch.get_num_threads()  # torch's own setting of this thread is made at its first use: before ours
        library.omp_set_num_threads(1)
