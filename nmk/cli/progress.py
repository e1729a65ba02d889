"""How far each of several things is, on standard error."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from threading import Lock

from nmk.cli.output import say, say_raw
from nmk.core.text import plain

_UP, _END_OF_LINE = "\x1b[{}A", "\x1b[K"


class Progress:
    """A line a thing, kept current on a terminal; elsewhere a line a step. Thread-safe.

    `live`: false where something else may write to the terminal meanwhile.
    """

    def __init__(self, names: Sequence[str], *, live: bool) -> None:
        self._steps = dict.fromkeys(names, "waiting")
        self._width = max(map(len, names), default=0)
        fits = len(names) < shutil.get_terminal_size().lines
        self._live = live and fits and sys.stderr.isatty()
        self._lock = Lock()
        if self._live:
            say_raw(self._block())

    def show(self, name: str, step: str) -> None:
        """The step that a thing is at now."""
        with self._lock:
            if self._live:
                self._steps[name] = step
                say_raw(_UP.format(len(self._steps)) + self._block())
            else:
                say(f"{name}: {step}")

    def _block(self) -> str:
        columns = shutil.get_terminal_size().columns
        lines = (plain(f"{name:{self._width}}  {step}") for name, step in self._steps.items())
        return "".join(f"{line[: columns - 1]}{_END_OF_LINE}\n" for line in lines)
