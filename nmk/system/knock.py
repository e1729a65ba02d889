"""A datagram through the tunnel, to a peer that may not be there."""

from __future__ import annotations

import socket
from contextlib import suppress

_DISCARD = 9  # the port of RFC 863: whatever comes is thrown away


def knock(interface: str, address: str) -> None:
    """Send a peer something that its WireGuard answers within 10 s, whoever listens there.

    (Its KEEPALIVE_TIMEOUT, where nothing else answers before.) It goes by the interface or not at
    all; that it could not be sent is not told.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sender.sendto(b"", (address, _DISCARD))
