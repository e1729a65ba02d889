"""How much of the controller one address, one access key or one node may have.

Nothing here tells good from bad: who asks is charged only for what it causes itself, so that the
share of one is never spent by another.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network

from nmk.errors import RateLimited

_MOST_REMEMBERED = 10_000
_MOST_ASKERS = 50_000  # nodes; each costs about 400 bytes
_NONCES = 16  # of a node's requests that were answered at length
_NONCE_BYTES = 8  # of each, which is random
COOKIE_SECONDS = 10.0  # for which a node is told the same cookie, however often somebody asks

# What one node may have of replies that are longer than "unchanged", in deltas.
DELTA, FULL_VIEW = 1, 6
RECORDABLE_RATE, RECORDABLE_BURST = 1 / 5, 20.0  # of requests that anybody may have recorded
PROVEN_RATE, PROVEN_BURST = 1 / 2.5, 40.0  # of those that only the node can have made just now


class Allowance:
    """A token bucket for each that asks: `burst` at once, `rate` a second in the long run.

    Bounded in memory: the one longest unheard of is forgotten.
    """

    def __init__(
        self,
        rate: float,
        burst: float,
        monotonic: Callable[[], float],
        most: int = _MOST_REMEMBERED,
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._monotonic = monotonic
        self._most = most
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, who: str) -> bool:
        """Whether there is one more for it; takes it."""
        with self._lock:
            now = self._monotonic()
            level, at = self._buckets.pop(who, (self._burst, now))
            level = min(self._burst, level + (now - at) * self._rate)
            self._buckets[who] = (max(level - 1, 0), now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        return level >= 1


class AskAgain(RateLimited):
    """The node shall ask again with this cookie, which shows that it is the one that asks."""

    cookie = ""


@dataclass(slots=True)
class _Asker:
    """What one node has left, when that was so, what it was answered, and its cookie."""

    recordable: float
    proven: float
    at: float
    nonces: bytes = b""
    cookie: str = ""
    made: float = 0.0


class LongReplies:
    """Which requests are answered with more than that nothing changed.

    A check-in without a report may be a recording that anybody sends from anywhere. So one request
    is answered at length once, and a node that has had its share is given a cookie under seal,
    which no recording can hold: with it the node has another share, which only itself can spend.
    Bounded in memory: the node longest unheard of is forgotten.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._askers: OrderedDict[str, _Asker] = OrderedDict()
        self._lock = threading.Lock()

    def admit(self, who: str, nonce: bytes, cookie: str, cost: int) -> None:
        """Charge a node for a reply. Raises AskAgain, RateLimited; nothing is charged then."""
        with self._lock:
            now = self._monotonic()
            asker = self._find(who, now)
            if cookie and cookie == asker.cookie:
                if asker.proven < cost:
                    raise RateLimited("this node asks for whole views too often")
                asker.proven -= cost
                asker.cookie = ""
                return
            short = nonce[:_NONCE_BYTES]
            known = range(0, len(asker.nonces), _NONCE_BYTES)
            if asker.recordable < cost or any(asker.nonces.startswith(short, at) for at in known):
                raise self._ask_again(asker, now)
            asker.recordable -= cost
            asker.nonces = (short + asker.nonces)[: _NONCES * _NONCE_BYTES]

    def _find(self, who: str, now: float) -> _Asker:
        asker = self._askers.pop(who, None) or _Asker(RECORDABLE_BURST, PROVEN_BURST, now)
        passed, asker.at = now - asker.at, now
        asker.recordable = min(RECORDABLE_BURST, asker.recordable + passed * RECORDABLE_RATE)
        asker.proven = min(PROVEN_BURST, asker.proven + passed * PROVEN_RATE)
        self._askers[who] = asker
        if len(self._askers) > _MOST_ASKERS:
            self._askers.popitem(last=False)
        return asker

    def _ask_again(self, asker: _Asker, now: float) -> AskAgain:
        if not asker.cookie or now - asker.made > COOKIE_SECONDS:
            asker.cookie, asker.made = secrets.token_hex(8), now
        error = AskAgain("this request was answered before, or this node asks too often")
        error.cookie = asker.cookie
        return error


def site_of(address: str) -> str:
    """What one host cannot change: its IPv4 address, or the /64 of its IPv6 address."""
    if ":" not in address:
        return address
    return str(ip_network((address.partition("%")[0], 64), strict=False))
