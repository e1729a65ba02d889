"""Waiting for a condition under a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE_SECONDS = 0.02


def poll(condition: Callable[[], T], deadline_seconds: float, what: str) -> T:
    """The first true value of `condition()`, asked again and again.

    Raises TimeoutError, naming `what` and the last value seen, when
    `deadline_seconds` pass without one. What `condition` raises goes through.
    """
    deadline = time.monotonic() + deadline_seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {deadline_seconds:g} s; last seen: {value!r}")
        time.sleep(PAUSE_SECONDS)
    return value
