"""UDP ports of this machine."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection

from nmk.core.parse import MAX_PORT
from nmk.errors import PortTaken

_NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


def is_free(port: int) -> bool:
    """Whether WireGuard could listen on a UDP port: on IPv4 and, where there is any, on IPv6."""
    return _binds(socket.AF_INET, "0.0.0.0", port) and _binds(socket.AF_INET6, "::", port)  # noqa: S104  # a try, closed at once


def next_free(first: int, reserved: Collection[int] = ()) -> int:
    """The lowest free port from `first` on that is not reserved.

    Raises PortTaken when all above are in use.
    """
    for port in range(first, MAX_PORT + 1):
        if port not in reserved and is_free(port):
            return port
    raise PortTaken(f"all UDP ports from {first} on are in use", "choose one with --listen-port")


def _binds(family: socket.AddressFamily, address: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
    except OSError as error:
        return error.errno in _NO_SUCH_FAMILY
    return True
