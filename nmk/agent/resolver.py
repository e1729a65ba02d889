"""Names to addresses in bounded time: getaddrinfo(3) waits for silent servers as long as it likes.

A look-up runs in a thread of its own, one a name, which ends when the resolver gives up.
"""

from __future__ import annotations

import errno
import socket
import threading
from contextlib import suppress
from typing import Any

from nmk.errors import MachineUnfit
from nmk.threads import start

Info = tuple[Any, ...]  # as getaddrinfo's

_running: dict[tuple[str, int, int], _LookUp] = {}


class _LookUp:
    def __init__(self, host: str, port: int, kind: int) -> None:
        self.place = (host, port, kind)
        self.over = threading.Event()
        self.found: list[Info] = []
        self.error: Exception = OSError("no address")

    def run(self) -> None:
        host, port, kind = self.place
        try:
            self.found = list(socket.getaddrinfo(host, port, type=kind))
        except (OSError, UnicodeError) as error:
            self.error = error
        finally:
            _running.pop(self.place, None)
            self.over.set()


def resolve(host: str, port: int, kind: int, seconds: float) -> list[Info]:
    """The addresses of a host, as getaddrinfo gives them. Raises OSError, UnicodeError."""
    with suppress(socket.gaierror):
        return list(socket.getaddrinfo(host, port, type=kind, flags=socket.AI_NUMERICHOST))
    place = (host, port, kind)
    look_up = _running.get(place)
    if look_up is None:
        look_up = _running[place] = _LookUp(*place)
        try:
            start(look_up.run)
        except MachineUnfit as error:
            _running.pop(place, None)
            raise OSError(errno.EAGAIN, error.message) from None
    if not look_up.over.wait(seconds):
        raise TimeoutError(f"{host} was not resolved in {seconds:.0f} s")
    if not look_up.found:
        raise look_up.error
    return look_up.found
