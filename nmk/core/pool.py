"""Which address comes next: the lowest free one, one just freed not while others are free."""

from __future__ import annotations

import heapq
from ipaddress import ip_address, ip_network

from nmk.core.parse import Range, parse_address, quote
from nmk.errors import AddressTaken, BadInput, RangeFull


class Pool:
    """The addresses of one range, in time that does not grow with how many are taken.

    Addresses are numbers counted from the range's base. All below `_fresh` have been in use at
    some time; those among them that are free again lie in `_free` (lowest first) or, freed a
    short while ago, in `_freed` (oldest first).
    """

    def __init__(self, cidr: str) -> None:
        self.cidr: Range = ip_network(cidr)
        self._base = int(self.cidr.network_address)
        self._fresh = 1  # 0 is the network's address (IPv6: the subnet-router anycast address)
        self._end = self.cidr.num_addresses - (1 if self.cidr.version == 4 else 0)  # broadcast
        self._taken: set[int] = set()
        self._free: list[int] = []
        self._freed: dict[int, int] = {}

    def take(self, address: str) -> None:
        """Mark an address as in use."""
        number = self._number(address)
        self._taken.add(number)
        self._freed.pop(number, None)

    def free(self, address: str, at: int) -> None:
        """Mark an address as free since the time `at`."""
        number = self._number(address)
        self._taken.discard(number)
        self._freed.pop(number, None)
        if 1 <= number < self._end:  # not so for a tombstone of an earlier range
            self._freed[number] = at

    def settle(self, before: int) -> None:
        """Addresses freed before that time are like any other free one again."""
        while self._freed:
            number, at = next(iter(self._freed.items()))
            if at >= before:
                return
            del self._freed[number]
            if number < self._fresh:
                heapq.heappush(self._free, number)

    def next(self) -> str:
        """The address to give out now; RangeFull when there is none. Takes nothing by itself."""
        while self._free and self._is_used(self._free[0]):
            heapq.heappop(self._free)
        while self._fresh < self._end and self._is_used(self._fresh):
            self._fresh += 1
        best = min([*self._free[:1], self._fresh])
        if best >= self._end:
            if not self._freed:
                raise RangeFull(f"the range {self.cidr} is full")
            best = next(iter(self._freed))
        return str(self.cidr[best])

    def check(self, text: str) -> str:
        """An address asked for, in canonical form: inside the range, usable and not in use."""
        address = parse_address(text)
        number = int(address) - self._base
        if address not in self.cidr or not 1 <= number < self._end:
            raise BadInput(
                f"{quote(text)} is no usable address of {self.cidr}",
                f"use one from {self.cidr[1]} to {self.cidr[self._end - 1]}",
            )
        if number in self._taken:
            raise AddressTaken(f"{address} is in use")
        return str(address)

    def _is_used(self, number: int) -> bool:
        return number in self._taken or number in self._freed

    def _number(self, address: str) -> int:
        return int(ip_address(address)) - self._base
