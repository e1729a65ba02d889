"""The clients of a listener together: how many there may be, what they may hold, who has to go.

There is always room for one more, unless all are being answered: of too many, those go that have
kept us waiting the longest, of the address that has the most. So whoever takes all that there is
takes it from themselves.
"""

from __future__ import annotations

import resource
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from nmk.server.log import log_seldom
from nmk.server.memory import give_back

MOST = 1000
SPARE_FILES = 200  # descriptors for admins, the database and all else that is no client
LEAST = 10
MAX_HELD = 64 * 1024 * 1024  # bytes
WORTH_GIVING_BACK = 16 * 1024 * 1024  # bytes that were held and are not any more
GRACE_SECONDS = 1  # for who has just been answered
_SWEEP_SECONDS = 1


class Client(Protocol):
    """A connection, as its crowd sees it."""

    site: str

    @property
    def busy(self) -> bool:
        """Whether it waits for us."""

    @property
    def asking(self) -> bool:
        """Whether its request has not come whole."""

    @property
    def waiting_since(self) -> float:
        """Since when we have waited for it."""

    @property
    def held(self) -> int:
        """Bytes that we keep for it."""

    def overdue(self, now: float) -> str:
        """Why its time is over; "" while it is not."""

    def cut(self) -> None:
        """End it; it leaves."""


def most_connections() -> int:
    """How many there may be at a time; takes as many descriptors as the system gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return MOST
    return max(LEAST, min(MOST, hard - SPARE_FILES))


class Crowd:
    """The connections of a listener, `places` of them at most. For the loop's thread alone.

    `share`: those of one address at most. `grace`: seconds that a client has for its request before
    others take its place; 0 where anybody may come, and everybody is given as much as there is.
    `grown` counts the bytes that have come since everything was counted last, `replies` are the
    sizes of long replies; workers add to the latter.
    """

    def __init__(self, places: int, share: int, grace: float = 0) -> None:
        self.places = places
        self.share = share
        self.grace = grace
        self.grown = 0
        self.replies: deque[int] = deque()
        self._sites: dict[str, dict[Client, None]] = {}
        self._count = 0
        self._above: set[str] = set()
        self._swept = 0.0
        self._full = False
        self._peak = 0  # of what was held, since memory was given back

    def __len__(self) -> int:
        return self._count

    def enter(self, client: Client) -> None:
        """One more."""
        site = self._sites.setdefault(client.site, {})
        site[client] = None
        self._count += 1
        if len(site) > self.share:
            self._above.add(client.site)

    def leave(self, client: Client) -> None:
        """One less; more than once is no harm."""
        site = self._sites.get(client.site, {})
        if client in site:
            del site[client]
            self._count -= 1
            if not site:
                del self._sites[client.site]

    def clients(self) -> list[Client]:
        """All of them."""
        return [client for site in self._sites.values() for client in site]

    def is_settled(self, now: float) -> bool:
        """Whether there is nothing to do; asked after everything that clients do."""
        return (
            0 <= now - self._swept < _SWEEP_SECONDS
            and self.grown <= MAX_HELD
            and not self._full
            and self._count < self.places
            and not self.replies
            and not self._above
        )

    def settle(self, now: float) -> bool:
        """Make room where there is too little; whether there is room for one more."""
        if not 0 <= now - self._swept < _SWEEP_SECONDS:
            self._swept = now
            self._sweep(now)
        while self.replies:
            self.grown += self.replies.popleft()
        if self.grown > MAX_HELD:
            self._lighten(now)
        while self._above:
            self._trim(self._above.pop(), now)
        while self._count >= self.places and self._free_a_place(now):
            pass
        was_full, self._full = self._full, self._count >= self.places
        if self._full and not was_full:
            log_seldom("no-place-left", reason="all-being-answered")
        return not self._full

    def _sweep(self, now: float) -> None:
        """End those whose time is over, and count what the others hold."""
        for client in self.clients():
            reason = client.overdue(now)
            if reason:
                if reason != "idle":
                    log_seldom("client-cut", reason=reason, address=client.site)
                client.cut()
        self._peak = max(self._peak, self.grown)
        self.grown = sum(client.held for client in self.clients())
        if self._peak - self.grown > WORTH_GIVING_BACK:
            self._peak = 0
            give_back()

    def _trim(self, name: str, now: float) -> None:
        """Keep an address to its share: the slowest goes."""
        site = self._sites.get(name, {})
        while len(site) > self.share and (client := self._slowest(site, now)):
            log_seldom("client-cut", reason="too-many-connections", address=name)
            client.cut()

    def _free_a_place(self, now: float) -> bool:
        """End the slowest client, of the address that has the most."""
        for site in sorted(self._sites.values(), key=len, reverse=True):
            if client := self._slowest(site, now):
                log_seldom("client-cut", reason="all-places-taken", address=client.site)
                client.cut()
                return True
        return False

    def _lighten(self, now: float) -> None:
        """Count what is held; where that is too much, end clients until it is half of it."""
        held = {client: client.held for client in self.clients()}
        self._peak = max(self._peak, self.grown)
        self.grown = sum(held.values())
        if self.grown <= MAX_HELD:
            return
        sites = [{c for c in site if held[c] and not c.busy} for site in self._sites.values()]
        sizes = [sum(held[c] for c in site) for site in sites]
        while self.grown > MAX_HELD / 2 and any(sites):
            most = max(range(len(sites)), key=sizes.__getitem__)
            client = self._slowest(sites[most], now) or max(sites[most], key=held.__getitem__)
            log_seldom("client-cut", reason="too-many-bytes", address=client.site)
            sites[most].remove(client)
            sizes[most] -= held[client]
            self.grown -= held[client]
            client.cut()

    def _slowest(self, clients: Iterable[Client], now: float) -> Client | None:
        """Who has kept us waiting the longest, and may go."""
        return min(
            (c for c in clients if self._may_go(c, now)),
            key=lambda c: c.waiting_since,
            default=None,
        )

    def _may_go(self, client: Client, now: float) -> bool:
        """Whether others may have its place; the clock may have been set back."""
        grace = self.grace if client.asking else GRACE_SECONDS
        return not client.busy and abs(now - client.waiting_since) >= grace
