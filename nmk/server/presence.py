"""Who was heard of and when: kept in memory, written down in batches.

Silence is measured on the monotonic clock and only while this controller serves, so that neither
an outage of its own nor a jump of the clock makes nodes look lost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Mapping
from hashlib import blake2b
from math import inf
from typing import Any, Literal, NamedTuple

from nmk.core.records import node_id
from nmk.server.told import Told
from nmk.wire.messages import CheckIn

HEALTHY_INTERVALS = 2.5  # one missed check-in is nothing
LATE_INTERVALS = 10
MOST_STRANGERS = 100  # that are remembered; anybody can be one
STRANGER_SECONDS = 3600  # that one is shown for
NOTED_SECONDS = 60  # how old what another controller has written down may be when it is read here
MOST_HEALTH = 32 << 20  # bytes of all nodes together; 2 KiB of each, where there are 16,384
MOST_TRAFFIC = 12 << 20
MOST_CALLERS = 16 << 20
MOST_SERVES = 6 << 20
_KEPT_INSTANCES = 8

NodeState = Literal["healthy", "late", "lost", "unheard", "doubled"]


class Sighting(NamedTuple):
    """An instance of a machine, and an address that it was seen at, "" where none is known."""

    instance: str
    address: str


class Stranger(NamedTuple):
    """A machine that holds an identity which the controller does not know: `seen` from there."""

    id: str
    remote: str
    seen: int


class Presence:
    """Last check-ins by identity. Thread-safe: a step is one operation on a dict, or is locked."""

    def __init__(
        self,
        saved: Mapping[str, int],
        wall: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._started = monotonic()
        self._last_seen = dict(saved)
        self._heard: dict[str, float] = {}
        self._elsewhere: dict[str, float] = {}
        self._unsaved: dict[str, int] = {}
        self._instances: dict[str, dict[bytes, str]] = {}
        self._doubled: dict[str, float] = {}
        self._traffic = Told(MOST_TRAFFIC)
        self._callers = Told(MOST_CALLERS)
        self._serves = Told(MOST_SERVES)
        self._health = Told(MOST_HEALTH)
        self._revisions: dict[str, int] = {}
        self._strangers: dict[tuple[str, str], Stranger] = {}
        self._strangers_lock = threading.Lock()
        self._memories: tuple[dict[str, Any] | Told, ...] = (
            self._last_seen,
            self._heard,
            self._elsewhere,
            self._instances,
            self._doubled,
            self._traffic,
            self._callers,
            self._serves,
            self._health,
            self._revisions,
        )

    def hear_check_in(self, identity: str, message: CheckIn, *, has_clients: bool) -> None:
        """A check-in of this identity has just been opened. `has_clients`: as far as we know."""
        callers = message.callers if has_clients else ""
        self.hear(identity, message.traffic, callers, message.serves)
        if message.revision > self._revisions.get(identity, -1):  # a recording tells of the past
            self._revisions[identity] = message.revision
        self._health.put(identity, self._wall(), message.health)

    def hear_stranger(self, network: str, identity: str, remote: str) -> None:
        """A check-in of an identity that is no node of a network of ours, and none that was."""
        stranger = Stranger(node_id(identity), remote, int(self._wall()))
        with self._strangers_lock:
            self._strangers.pop((network, identity), None)
            while len(self._strangers) >= MOST_STRANGERS:
                self._strangers.pop(next(iter(self._strangers)))
            self._strangers[network, identity] = stranger

    def strangers(self, network: str, nodes: Container[str] = ()) -> list[Stranger]:
        """Those that have checked in lately, the latest last.

        `nodes`: the identities that are known by now, as where such a machine has joined anew.
        """
        since = self._wall() - STRANGER_SECONDS
        with self._strangers_lock:
            found = list(self._strangers.items())
        return [
            stranger
            for (name, identity), stranger in found
            if name == network and stranger.seen >= since and identity not in nodes
        ]

    def hear(self, identity: str, traffic: str = "", callers: str = "", serves: str = "") -> None:
        """One of whatever kind. `traffic`, `callers`, `serves`: as in `wire.messages`."""
        now = self._monotonic()
        self._heard[identity] = now
        self._unsaved[identity] = int(self._wall())
        if traffic:
            self._traffic.put(identity, now, traffic)
        if callers:
            self._callers.put(identity, now, callers)
        self._serves.put(identity, now, serves)

    def hear_instance(self, identity: str, before: Sighting, now: Sighting) -> None:
        """A report came from another instance than the one before.

        After a reboot the earlier instance never speaks again; when it does, the same identity is
        on two machines.
        """
        seen = dict(self._instances.get(identity, {}))
        if _mark(now.instance) in seen:
            self._doubled[identity] = self._monotonic()
        for instance, address in (before, now):
            seen.pop(_mark(instance), None)
            seen[_mark(instance)] = address
        self._instances[identity] = dict(list(seen.items())[-_KEPT_INSTANCES:])

    def copies(self, identity: str, interval: int) -> list[str]:
        """Where the machines are that have this one identity; none where it is on one alone."""
        if identity not in self._doubled or self.state(identity, interval) != "doubled":
            return []
        return sorted({a for a in list(self._instances.get(identity, {}).values())[-2:] if a})

    def last_seen(self, identity: str) -> int | None:
        """Wall-clock time of the last check-in, also from before this controller started.

        None where it is not known: a time in the future is from before the clock was put back.
        """
        seen = max(m.get(identity, 0) for m in (self._unsaved, self._last_seen)) or None
        return None if seen is not None and seen > self._wall() else seen

    def traffic(self, identity: str) -> tuple[int, str] | None:
        """Seconds since a node spoke of its traffic, and what it said; None: not in this life."""
        return self._told(self._traffic.get(identity))

    def callers(self, identity: str) -> tuple[int, str] | None:
        """The same of a gateway's ext clients."""
        return self._told(self._callers.get(identity))

    def serves(self, identity: str) -> str:
        """What a gateway said last of its roles; "" where it said nothing."""
        return (self._serves.get(identity) or (0.0, ""))[1]

    def health(self, identity: str) -> tuple[float, str] | None:
        """What the last check-in said of those before it, and when that was; None for nothing."""
        return self._health.get(identity)

    def revision(self, identity: str) -> int | None:
        """The revision that a node stood at when it checked in last; None: not in this life."""
        return self._revisions.get(identity)

    def identities(self) -> set[str]:
        """All that anything is remembered of."""
        return {identity for memory in self._memories for identity in list(memory)}

    def forget(self, identities: Iterable[str]) -> None:
        """These are no nodes any more."""
        for identity in identities:
            for memory in self._memories:
                memory.pop(identity, None)

    def state(self, identity: str, interval: int) -> NodeState:
        """`healthy`, `late` or `lost`, by the node's own interval in seconds; or one of these.

        `unheard`: it has not checked in since this controller started, here or at another one of
        the same database, and is not late yet.
        `doubled`: lately, two machines have been checking in with this one identity.
        """
        now = self._monotonic()
        if now - self._doubled.get(identity, -inf) <= LATE_INTERVALS * interval:
            return "doubled"
        heard = max(
            self._heard.get(identity, -inf), self._elsewhere.get(identity, -inf) + NOTED_SECONDS
        )
        silence = now - max(heard, self._started)
        if silence <= HEALTHY_INTERVALS * interval:
            return "unheard" if heard == -inf else "healthy"
        return "late" if silence <= LATE_INTERVALS * interval else "lost"

    def learn(self, saved: Mapping[str, int]) -> None:
        """What all controllers of the database have written down: who was heard of elsewhere.

        The clocks of their hosts may differ, so what counts is that a time has moved, and when
        that was seen here.
        """
        now = self._monotonic()
        for identity, seen in saved.items():
            if seen > max(m.get(identity, 0) for m in (self._unsaved, self._last_seen)):
                self._last_seen[identity] = seen
                self._elsewhere[identity] = now

    def take_unsaved(self) -> dict[str, int]:
        """What has not been written down yet, handed over to be."""
        taken, self._unsaved = self._unsaved, {}
        self._last_seen.update(taken)
        return taken

    def _told(self, told: tuple[float, str] | None) -> tuple[int, str] | None:
        return told and (int(self._monotonic() - told[0]), told[1])

    def put_back(self, taken: Mapping[str, int]) -> None:
        """What could not be written down after all."""
        self._unsaved = {**taken, **self._unsaved}


def _mark(instance: str) -> bytes:
    """What is kept of an instance, however long: enough to know it again."""
    return blake2b(instance.encode(), digest_size=8).digest()
