"""What the controller does now and then, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from nmk.errors import NmkError
from nmk.server.log import log_trouble

_LONGEST_WAIT = 1.0  # seconds


class Chores:
    """Runs each function every so many seconds. One that fails is logged, and tried again.

    `chores`: the functions and their periods in seconds. A context manager: stopped at its end.
    """

    def __init__(self, chores: Mapping[Callable[[], None], float]) -> None:
        self._chores = dict(chores)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chores", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due = {chore: time.monotonic() + period for chore, period in self._chores.items()}
        while not self._stop.wait(_LONGEST_WAIT):
            for chore, at in due.items():
                if time.monotonic() >= at:
                    run_chore(chore)
                    due[chore] = time.monotonic() + self._chores[chore]


def run_chore(chore: Callable[[], None]) -> None:
    """Run one function; whatever goes wrong goes to the log."""
    try:
        chore()
    except NmkError as error:
        log_trouble("chore-failed", chore=chore.__name__, reason=error.message)
    except Exception:
        logging.getLogger("nmk").exception("internal-error")
