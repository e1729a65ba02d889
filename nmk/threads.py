"""Threads whose start cannot hang.

`threading.Thread.start()` waits until the new thread says that it runs: for ever, where that dies
of a lack of memory before it can say so.
"""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread
from collections.abc import Callable

from nmk.errors import MachineUnfit

_SECONDS = 2.0  # for a thread to begin
_LACK = "no more threads can be started"


def start(action: Callable[[], object]) -> None:
    """Do it in a thread of its own, which keeps no process from ending.

    Raises MachineUnfit where there can be none; then it is not done later either.
    """
    begun, decided = allocate_lock(), allocate_lock()
    begun.acquire()

    def body() -> None:
        if decided.acquire(blocking=False):
            begun.release()
            action()

    try:
        start_new_thread(body, ())
    except (RuntimeError, MemoryError):
        raise MachineUnfit(_LACK) from None
    if not begun.acquire(timeout=_SECONDS) and decided.acquire(blocking=False):
        raise MachineUnfit(_LACK)
