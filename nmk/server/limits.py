"""How many requests of strangers an address may make."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_network

from nmk.errors import RateLimited

_MOST_ADDRESSES = 10_000


class RateLimit:
    """A token bucket for each address: `burst` requests at once, `rate` a second in the long run.

    Bounded in memory: the address longest unheard of is forgotten.
    """

    def __init__(self, rate: float, burst: float, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def spend(self, address: str) -> None:
        """One request of that address. Raises RateLimited."""
        site = site_of(address)
        with self._lock:
            now = self._monotonic()
            level, at = self._buckets.pop(site, (self._burst, now))
            level = min(self._burst, level + (now - at) * self._rate)
            self._buckets[site] = (max(level - 1, 0), now)
            if len(self._buckets) > _MOST_ADDRESSES:
                self._buckets.popitem(last=False)
        if level < 1:
            raise RateLimited(f"too many requests from {address}")


def site_of(address: str) -> str:
    """What one host cannot change: its IPv4 address, or the /64 of its IPv6 address."""
    if ":" not in address:
        return address
    return str(ip_network((address.partition("%")[0], 64), strict=False))
