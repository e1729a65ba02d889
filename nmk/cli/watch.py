"""Showing the same thing again and again, until Ctrl-C."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from nmk.cli.output import put_text

PERIOD = 2.0  # seconds
_CLEAR, _HOME, _END_OF_LINE, _BELOW = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"


def watch(render: Callable[[], str], wait: Callable[[float], None] = time.sleep) -> None:
    """Print what `render` gives every two seconds; Ctrl-C ends it and is no failure.

    A terminal shows the newest only, as much of it as fits; elsewhere one follows the other.
    """
    terminal = sys.stdout.isatty()
    with suppress(KeyboardInterrupt):
        if terminal:
            put_text(_CLEAR)
        while True:
            text = render()
            put_text(_redraw(text) if terminal else f"{text}\n")
            wait(PERIOD)


def remembered(
    ask: Callable[[str], bool], seconds: float, clock: Callable[[], float] = time.monotonic
) -> Callable[[str], bool]:
    """`ask`, asked again about the same thing only after so many seconds."""
    answers: dict[str, tuple[float, bool]] = {}

    def answer(thing: str) -> bool:
        now = clock()
        if thing not in answers or now - answers[thing][0] >= seconds:
            answers[thing] = (now, ask(thing))
        return answers[thing][1]

    return answer


def _redraw(text: str) -> str:
    """The text over what is on the screen, without a flicker."""
    size = shutil.get_terminal_size()
    lines = [line[: size.columns] for line in text.splitlines()][: size.lines - 1]
    return _HOME + "".join(f"{line}{_END_OF_LINE}\n" for line in lines) + _BELOW
