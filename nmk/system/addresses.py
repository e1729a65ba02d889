"""All addresses of this machine in one pass: a dump by netlink(7), rtnetlink(7).

Asking interface by interface reads all addresses once for each of them.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address

from nmk.system.monitor import attributes

_GET_ADDRESSES, _NEW_ADDRESS, _ERROR, _DONE = 22, 20, 2, 3  # linux/rtnetlink.h, netlink.h
_REQUEST, _DUMP = 1, 0x300
_ADDRESS, _LOCAL = 1, 2  # linux/if_addr.h; of a point-to-point link the first is the peer's
_CHUNK = 64 * 1024
_TIMEOUT = 5  # seconds


def all_addresses() -> list[tuple[str, str]]:
    """Interfaces with their addresses, with prefix lengths. Raises OSError."""
    names = dict(socket.if_nameindex())
    return [(names[n], a) for n, a in _dump() if n in names]


def _dump() -> Iterator[tuple[int, str]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as kernel:
        kernel.settimeout(_TIMEOUT)
        kernel.send(struct.pack("=IHHIIB3xI", 24, _GET_ADDRESSES, _REQUEST | _DUMP, 1, 0, 0, 0))
        while True:
            data = kernel.recv(_CHUNK)
            while len(data) >= 16:
                length, kind = struct.unpack_from("=IH", data)
                if kind == _DONE:
                    return
                if kind == _ERROR or not 16 <= length <= len(data):
                    raise OSError("the kernel does not tell its addresses")
                if kind == _NEW_ADDRESS:
                    yield from parse_address_message(data[16:length])
                data = data[(length + 3) & ~3 :]


def parse_address_message(payload: bytes) -> Iterator[tuple[int, str]]:
    """The interface's number and the address in one message; none where it cannot be read."""
    with suppress(struct.error, ValueError, KeyError):
        prefix, number = struct.unpack_from("=xB2xI", payload)
        found = attributes(payload[8:])
        yield number, f"{ip_address(found.get(_LOCAL) or found[_ADDRESS])}/{prefix}"
