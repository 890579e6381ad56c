"""How the memory of processes that stay is looked after: by the C library, and by Python's collector."""

from __future__ import annotations

import ctypes
import gc
import sys

# glibc's mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
ARENAS = 2
KEPT_BYTES = 128 * 1024 * 1024
LARGEST_HEAP_PIECE_BYTES = 32 * 1024 * 1024  # glibc takes no more


def keep_freed_bodies() -> None:
    """Have glibc keep freed bodies for the next ones, instead of giving pages back and faulting them in anew.

    Thousands of bodies a second come and go; without this a worker spends a good part of its time in page faults.
    Does nothing outside glibc.
    """
    _set(_M_MMAP_THRESHOLD, LARGEST_HEAP_PIECE_BYTES)
    _set(_M_TRIM_THRESHOLD, KEPT_BYTES)


def give_back_freed() -> None:
    """Have glibc give freed pages back after all; some milliseconds. Does nothing outside glibc.

    For a process that has nothing to do: what the largest batch took, after an outage say, would stay with it for ever.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def share_arenas() -> None:
    """Have glibc serve all threads from two arenas; to be called before there are threads.

    Each thread would else get one of its own, which keeps what the largest answer of that thread took: a web process of
    eight threads held 219 MB after a minute of lists and submits of all sizes, and so 202. Does nothing outside glibc.
    """
    _set(_M_ARENA_MAX, ARENAS)


def _set(parameter: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(parameter, value)


# Objects that are new before the collector looks at them; Python's own 700 are the work of some dozen images.
NEW_OBJECTS = 10_000


def leave_alone_what_stays() -> None:
    """Have the collector pass over what has been loaded by now; to be called once, when a process has started.

    A full collection would else look through 150,000 objects of imported modules again and again, 80 ms each time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
