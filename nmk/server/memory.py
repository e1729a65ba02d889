"""Giving memory back to the system: glibc keeps what was freed, in an arena of each thread."""

from __future__ import annotations

from functools import cache
from typing import Any


def give_back() -> None:
    """Let the system have what is free, where the C library can do that (malloc_trim(3))."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:  # noqa: ANN401  # a function of C
    try:
        import ctypes

        return ctypes.CDLL(None).malloc_trim
    except (ImportError, OSError, MemoryError, AttributeError):
        return None  # musl has none, and needs none
