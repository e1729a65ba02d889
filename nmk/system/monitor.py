"""Learning at once what changes in the kernel's network state: netlink(7), rtnetlink(7).

Addresses, routes, rules, links and forwarding by one socket, packet filters by another.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

# linux/netlink.h, linux/rtnetlink.h, linux/netconf.h, linux/netfilter/nfnetlink.h
_NETFILTER, _SOL_NETLINK, _ADD_MEMBERSHIP = 12, 270, 1
_ROUTE_GROUPS = (1, 5, 7, 8, 9, 11, 19, 24, 25)  # link; IPv4, IPv6: address, route, rule, netconf
_FILTER_GROUPS = (7,)  # NFNLGRP_NFTABLES
_LINKS, _ADDRESSES, _ROUTES, _RULES, _NETCONFS = (
    {start, start + 1} for start in (16, 20, 24, 32, 80)
)
_CLONED, _MULTICAST = 0x200, 5
_CHUNK = 64 * 1024
_MOST_READS = 256  # in one go; what is left makes the descriptor readable again


class News(NamedTuple):
    """What has changed: something of nmk's own, addresses and routes of others."""

    ours: bool = False
    theirs: bool = False


class Monitor:
    """Its file descriptor is readable when something has changed.

    `interfaces` gives the names of nmk's own interfaces, `tables` those of its tables in nft. All
    rules count as ours, and all routing tables from `first_table` on.
    """

    def __init__(
        self,
        interfaces: Callable[[], set[str]],
        tables: Callable[[], set[str]],
        first_table: int,
    ) -> None:
        self._interfaces, self._tables, self._first = interfaces, tables, first_table
        self._numbers: dict[int, str] = {}  # of interfaces that may be gone by now
        self._poll = select.epoll()
        self._sockets = {}
        for protocol, groups in ((0, _ROUTE_GROUPS), (_NETFILTER, _FILTER_GROUPS)):
            with suppress(OSError):  # a kernel without it has nothing to tell
                found = _listen(protocol, groups)
                self._sockets[found.fileno()] = (protocol, found)
                self._poll.register(found, select.EPOLLIN)

    def fileno(self) -> int:
        """For select."""
        return self._poll.fileno()

    def read(self) -> News:
        """What has changed since the last call."""
        ours = theirs = False
        for number, _ in self._poll.poll(0):
            protocol, found = self._sockets[number]
            judge = self._judge_filter if protocol else self._judge
            for kind, payload in _messages(found):
                news = judge(kind, payload)
                ours, theirs = ours or news.ours, theirs or news.theirs
        return News(ours, theirs)

    def close(self) -> None:
        """Listen no more."""
        self._poll.close()
        for _, found in self._sockets.values():
            found.close()

    def _judge(self, kind: int, payload: bytes) -> News:
        """One message of rtnetlink; where some were lost, anything may have changed."""
        if kind in _RULES or kind in _NETCONFS:
            return News(ours=True)
        if kind in _LINKS:
            (number,) = struct.unpack_from("=4xi", payload)
            name = _text(attributes(payload[16:]).get(3, b""))
            self._numbers[number] = name
            return News(ours=name in self._interfaces())
        if kind in _ADDRESSES:
            (number,) = struct.unpack_from("=4xI", payload)
            is_ours = self._is_ours(number)
            return News(is_ours, not is_ours)
        if kind in _ROUTES:
            return self._judge_route(payload)
        return News(kind == _LOST, kind == _LOST)

    def _judge_route(self, payload: bytes) -> News:
        table, form, flags = struct.unpack_from("=4xB2xBI", payload)
        if flags & _CLONED or form == _MULTICAST:
            return News()
        found = attributes(payload[12:])
        table = _number(found.get(15)) or table
        is_ours = self._is_ours(_number(found.get(4))) or table >= self._first
        return News(is_ours, not is_ours)

    def _judge_filter(self, kind: int, payload: bytes) -> News:
        """One message of nf_tables, whose first attribute is the table's name."""
        name = _text(attributes(payload[4:]).get(1, b""))
        return News(ours=kind == _LOST or name in self._tables())

    def _is_ours(self, number: int) -> bool:
        with suppress(OSError):
            self._numbers[number] = socket.if_indextoname(number)
        return self._numbers.get(number) in self._interfaces()


_LOST = 0  # no message of the kernel's: some did not fit into the socket


def _listen(protocol: int, groups: tuple[int, ...]) -> socket.socket:
    found = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        found.bind((0, 0))
        for group in groups:
            with suppress(OSError):  # such as IPv6's, where there is none
                found.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        found.setblocking(False)
    except OSError:
        found.close()
        raise
    return found


def _messages(found: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Type and content of each message that has come."""
    for _ in range(_MOST_READS):
        try:
            data = found.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:  # ENOBUFS
            yield _LOST, b""
            return
        while len(data) >= 16:
            length, kind = struct.unpack_from("=IH", data)
            if not 16 <= length <= len(data):
                break
            with suppress(struct.error):  # too short for its kind: none of those that we know
                yield kind, data[16:length]
            data = data[(length + 3) & ~3 :]


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in a message of netlink by their types, as far as they can be read."""
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if not 4 <= length <= len(data):
            break
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def _number(data: bytes | None) -> int:
    return struct.unpack("=I", data)[0] if data and len(data) == 4 else 0


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")
