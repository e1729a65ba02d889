"""What the controller does now and then, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from traceback import format_exc

from nmk.errors import NmkError
from nmk.server.log import Lasting

_LONGEST_WAIT = 1.0  # seconds
_FIRST_SECONDS = 600.0  # in which each is done first, as a controller may never run for a day


class Chores:
    """Runs each function every so many seconds. One that fails is logged, and tried again.

    `first` is done before anything else may happen; `chores`: the functions and their periods in
    seconds. A context manager: stopped at its end.
    """

    def __init__(
        self, first: Callable[[], None], chores: Mapping[Callable[[], None], float]
    ) -> None:
        self._first = first
        self._chores = dict(chores)
        self._troubles = defaultdict[str, Lasting](
            partial(Lasting, "chore-failed", "chore-works-again")
        )
        self._begun = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chores", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()
        self._begun.wait()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def do(self, chore: Callable[[], None]) -> None:
        """Run one function; whatever goes wrong goes to the log."""
        name = chore.__name__
        trouble = self._troubles[name]
        try:
            chore()
        except NmkError as error:
            trouble.tell(chore=name, code=error.code, reason=error.message, hint=error.hint)
        except Exception as error:  # noqa: BLE001  # a mistake of ours ends no other chore
            reason, trace = type(error).__name__, format_exc()
            trouble.tell(chore=name, code="internal-error", reason=reason, traceback=trace)
        else:
            trouble.end(chore=name)

    def _run(self) -> None:
        self.do(self._first)
        self._begun.set()
        begun = time.monotonic()
        due = {chore: begun + min(period, _FIRST_SECONDS) for chore, period in self._chores.items()}
        while not self._stop.wait(_LONGEST_WAIT):
            for chore, at in due.items():
                if time.monotonic() >= at:
                    self.do(chore)
                    due[chore] = time.monotonic() + self._chores[chore]
