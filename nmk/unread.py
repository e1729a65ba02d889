"""A log that nobody reads holds up nobody's work: lines that would have to wait are left out.

A pipe that is full, a terminal that was stopped (Ctrl-S): write(2) would wait for as long as they
are. Not O_NONBLOCK, which who started us would have too: its terminal is the same open file.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable
from threading import RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_CHUNK = select.PIPE_BUF  # bytes that can be written where poll(2) says so, without waiting


def never_wait(tell: Callable[[int], str]) -> None:
    """From now on nothing that is written to standard error waits for a reader.

    `tell`: the line that says how many were left out, once there is room again.
    """
    if sys.stderr is not None:
        raw = _Unread(sys.stderr.fileno(), tell)
        sys.stderr.flush()
        sys.stderr = io.TextIOWrapper(
            raw,
            sys.stderr.encoding,
            "backslashreplace",
            write_through=True,
        )


class _Unread(io.RawIOBase):
    def __init__(self, number: int, tell: Callable[[int], str]) -> None:
        self._number = number
        self._tell = tell
        self._left_out = 0  # lines
        self._is_cut = False  # in a line
        self._lock = RLock()
        self._poll = select.poll()
        self._poll.register(number, select.POLLOUT)

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """Where it is written."""
        return self._number

    def isatty(self) -> bool:
        """Whether that is a terminal."""
        return os.isatty(self._number)

    def write(self, data: ReadableBuffer, /) -> int:
        """Write it, or count its lines as left out. Raises OSError."""
        content = bytes(data)
        with self._lock:
            if self._left_out:
                told = "\n" * self._is_cut + self._tell(self._left_out) + "\n"
                if self._put(told.encode()):
                    self._left_out = 0
            if self._left_out or not self._put(content):
                self._left_out += content.count(b"\n")
        return len(content)

    def _put(self, content: bytes) -> bool:
        """Whether all of it could be written."""
        while content:
            if not self._poll.poll(0):
                return False
            try:
                written = os.write(self._number, content[:_CHUNK])
            except BlockingIOError:  # whoever started us has made it so
                return False
            self._is_cut = content[written - 1 : written] != b"\n"
            content = content[written:]
        return True
