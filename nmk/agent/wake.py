"""A word to the agent of this machine: somebody has done something to a network.

So it does not wait until its next look. Nobody else can say it: the socket is in a directory that
is closed to others.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

from nmk.agent.places import make_runtime_directory, runtime_directory
from nmk.core.parse import parse_label
from nmk.errors import BadInput

_MOST_BYTES = 64


def wake(network: str) -> None:
    """Tell the agent, if there is one."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto(network.encode(), str(_path()))


class WakeUps:
    """What is told; readable when something was. Where there can be no socket nothing is."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        with suppress(OSError):
            make_runtime_directory()
            _path().unlink(missing_ok=True)
            self._socket.bind(str(_path()))

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def read(self) -> set[str]:
        """The networks that were named since the last look."""
        found = set()
        with suppress(BlockingIOError):
            while True:
                with suppress(UnicodeDecodeError, BadInput):
                    found.add(parse_label(self._socket.recv(_MOST_BYTES).decode()))
        return found

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()
        with suppress(OSError):
            _path().unlink()
            runtime_directory().rmdir()


def _path() -> Path:
    return runtime_directory() / "agent.sock"
