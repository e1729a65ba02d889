"""Waiting for a condition, for as long as a busy machine may need."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE_SECONDS = 0.02

# Asking may cost more than what is waited for: of the processors, it gets a third of one.
REST, LONGEST_REST_SECONDS = 2, 0.5

# What an idle machine needs, times LOAD, and a while for what does not grow with it.
LOAD = 3
SPARE_SECONDS = 60


def patient(seconds: float) -> float:
    """The deadline, in seconds, of what takes at most `seconds` on an idle machine.

    Other work on the machine may stretch everything, so a deadline only ends what hangs. Nothing
    takes longer by it but a test that fails.
    """
    return seconds * LOAD + SPARE_SECONDS


def poll(condition: Callable[[], T], seconds: float, what: str) -> T:
    """The first true value of `condition()`, asked again and again.

    `seconds` is what it takes at most on an idle machine. Raises TimeoutError, naming `what` and
    the last value seen, when it takes longer than `patient` makes of that. What `condition`
    raises goes through.
    """
    limit = patient(seconds)
    deadline = time.monotonic() + limit
    before = _spent_seconds()
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {limit:g} s; last seen: {value!r}")
        rest = REST * (_spent_seconds() - before)
        time.sleep(max(PAUSE_SECONDS, min(rest, LONGEST_REST_SECONDS)))
        before = _spent_seconds()
    return value


def _spent_seconds() -> float:
    """The processor time of this process, and of those that it waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)
