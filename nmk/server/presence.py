"""Who was heard of and when: kept in memory, written down in batches.

Silence is measured on the monotonic clock and only while this controller serves, so that neither
an outage of its own nor a jump of the clock makes nodes look lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Any

HEALTHY_INTERVALS = 2.5  # one missed check-in is nothing
LATE_INTERVALS = 10
_KEPT_INSTANCES = 8


class Presence:
    """Last check-ins by identity. Thread-safe: every step is one operation on a dict."""

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
        self._unsaved: dict[str, int] = {}
        self._instances: dict[str, tuple[str, ...]] = {}
        self._doubled: dict[str, float] = {}
        self._traffic: dict[str, tuple[float, str]] = {}
        self._callers: dict[str, tuple[float, str]] = {}
        self._serves: dict[str, str] = {}
        self._memories: tuple[dict[str, Any], ...] = (
            self._last_seen,
            self._heard,
            self._instances,
            self._doubled,
            self._traffic,
            self._callers,
            self._serves,
        )

    def hear(self, identity: str, traffic: str = "", callers: str = "", serves: str = "") -> None:
        """A check-in of this identity has just been opened.

        `traffic`, `callers`, `serves`: what it says of that, as in `wire.messages`.
        """
        now = self._monotonic()
        self._heard[identity] = now
        self._unsaved[identity] = int(self._wall())
        if traffic:
            self._traffic[identity] = (now, traffic)
        if callers:
            self._callers[identity] = (now, callers)
        if serves:
            self._serves[identity] = serves
        else:
            self._serves.pop(identity, None)

    def hear_instance(self, identity: str, before: str, now: str) -> None:
        """A report came from another instance than the one before.

        After a reboot the earlier instance never speaks again; when it does, the same identity is
        on two machines.
        """
        earlier = self._instances.get(identity, ())
        if now in earlier:
            self._doubled[identity] = self._monotonic()
        self._instances[identity] = (*earlier, before)[-_KEPT_INSTANCES:]

    def last_seen(self, identity: str) -> int | None:
        """Wall-clock time of the last check-in, also from before this controller started."""
        return self._unsaved.get(identity) or self._last_seen.get(identity)

    def traffic(self, identity: str) -> tuple[int, str] | None:
        """Seconds since a node spoke of its traffic, and what it said; None: not in this life."""
        return self._told(self._traffic.get(identity))

    def callers(self, identity: str) -> tuple[int, str] | None:
        """The same of a gateway's ext clients."""
        return self._told(self._callers.get(identity))

    def serves(self, identity: str) -> str:
        """What a gateway said last of its roles; "" where it said nothing."""
        return self._serves.get(identity, "")

    def identities(self) -> set[str]:
        """All that anything is remembered of."""
        return {identity for memory in self._memories for identity in list(memory)}

    def forget(self, identities: Iterable[str]) -> None:
        """These are no nodes any more."""
        for identity in identities:
            for memory in self._memories:
                memory.pop(identity, None)

    def state(self, identity: str, interval: int) -> str:
        """`healthy`, `late` or `lost`, by the node's own interval in seconds; else `doubled`.

        Doubled: lately, two machines have been checking in with this one identity.
        """
        now = self._monotonic()
        if now - self._doubled.get(identity, -inf) <= LATE_INTERVALS * interval:
            return "doubled"
        silence = now - self._heard.get(identity, self._started)
        if silence <= HEALTHY_INTERVALS * interval:
            return "healthy"
        return "late" if silence <= LATE_INTERVALS * interval else "lost"

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
