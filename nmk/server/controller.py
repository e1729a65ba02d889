"""The controller's memory and the one way to change it.

All networks live in memory as meshes. A change is decided on them by a pure function, stored as a
commit, and applied to them when it is stored; when another writer was faster, the memory is
brought up to date and the decision made again. Readers take `lock` for as long as they look.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import cast

from nmk.core.ext_clients import expire_clients
from nmk.core.mesh import KEPT_COMMITS, Mesh
from nmk.core.networks import live_network
from nmk.core.records import ExtClient, Network, Record
from nmk.errors import NmkError, StoreUnavailable, StoreUnusable
from nmk.server.log import Lasting, log_event, log_seldom
from nmk.server.presence import Presence
from nmk.store.engine import Collision
from nmk.store.store import Commit, Point, Store, describe_change
from nmk.wire.envelope import Identity

EVERYWHERE = "*"  # the pseudo-network whose revision guards what crosses networks
KEPT_CHANGES = 90 * 86400  # seconds that the log of changes reaches back
_ATTEMPTS = 20
_REFRESH_SECONDS = 1
_EXPIRY_SECONDS = 5  # until it is tried again where the database is away; check-ins go on
Decide = Callable[[Mapping[str, Mesh]], list[Record]]


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the time comes from: wall-clock seconds since 1970, and monotonic seconds."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


class Controller:
    """Networks, their nodes and keys, as they are now."""

    def __init__(self, store: Store, identity: Identity, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.identity = identity
        self.epoch = store.epoch
        self.lock = threading.Lock()
        self.meshes: dict[str, Mesh] = {}
        self.presence = Presence(store.presence(), self.clock.wall, self.clock.monotonic)
        self._store = store
        self._writer = threading.Lock()
        self._refreshed = -inf
        self._expiry_waits = -inf
        monotonic = self.clock.monotonic
        self._unread = Lasting("database-not-read", "database-read-again", monotonic)
        self._unstored = Lasting("expiry-not-stored", "expiry-stored-again", monotonic)
        self.refresh()

    def now(self) -> int:
        """Wall-clock time, whole seconds."""
        return int(self.clock.wall())

    def mesh(self, network: str) -> Mesh:
        """The mesh of a live network; NotFound when there is none. Hold `lock`."""
        mesh = self.meshes.get(network) or Mesh(network)
        live_network(mesh, self.meshes.values())
        return mesh

    def commit(
        self,
        actor: str,
        networks: tuple[str, ...],
        decide: Decide,
        then: Callable[[list[Record]], None] = lambda _: None,
        *,
        dry_run: bool = False,
    ) -> list[Record]:
        """Store what `decide` makes of the present, as one commit to each of the networks.

        Gives the records as stored; none, and no commit, where nothing was to change. Whatever
        `decide` raises passes through and nothing has happened; with `dry_run` nothing happens
        either, and the records are what would have been stored. `then` is called with the records
        before anybody else changes anything; the lock is held.
        """
        with self._writer:
            for _ in range(_ATTEMPTS):
                with self.lock:
                    records = decide(self.meshes)
                    if dry_run or not records:
                        then(records)
                        return records
                    bases = {n: self.meshes.setdefault(n, Mesh(n)).revision for n in networks}
                    stored = [replace(r, revision=bases[_network(r)] + 1) for r in records]
                    commits = self._commits(actor, bases, stored)
                try:
                    self._store.commit(commits, stored)
                except Collision:
                    self.refresh()
                    continue
                with self.lock:
                    for c in commits:
                        own = [r for r in stored if _network(r) == c.network]
                        mesh = self.meshes[c.network]
                        before = len(mesh.curtailed)
                        mesh.apply(c.revision, c.id, c.at, own)
                        if len(mesh.curtailed) > before:
                            log_seldom(
                                "addresses-left-out", network=c.network, nodes=len(mesh.curtailed)
                            )
                    then(stored)
                return stored
        raise StoreUnavailable("the database has too many writers at the moment")

    def refresh(self) -> None:
        """Take in what others have committed; a network whose past has changed is read anew."""
        for network, head in self._store.heads().items():
            mesh = self.meshes.get(network)
            if mesh is not None and (mesh.revision, mesh.commit_id) == (
                head.revision,
                head.commit_id,
            ):
                continue
            if mesh is None or not self._goes_on(mesh, head):
                mesh = Mesh(network)
            points = self._store.log_since(network, mesh.revision, KEPT_COMMITS)
            records = self._store.records_since(network, mesh.revision)
            with self.lock:
                for point in points[:-1]:
                    mesh.apply(point.revision, point.commit_id, point.at, ())
                last = points[-1]
                mesh.apply(last.revision, last.commit_id, last.at, records, several=True)
                self.meshes[network] = mesh

    def catch_up(self) -> None:
        """Take in what others have committed, as far as the database can be read; not too often."""
        now = self.clock.monotonic()
        if now - self._refreshed < _REFRESH_SECONDS:
            return
        self._refreshed = now
        try:
            with self._writer:  # between a commit and its application the memory is behind
                self.refresh()
        except (StoreUnavailable, StoreUnusable) as error:
            self._unread.tell(reason=error.message, hint=error.hint)
        else:
            self._unread.end()

    def expire_clients(self, network: str) -> None:
        """Keep out the network's ext clients whose time is over, as soon as that can be stored."""
        if self.clock.monotonic() < self._expiry_waits:
            return
        self._expiry_waits = inf  # one of the check-ins may wait for the database, not all
        try:
            stored = self.commit(
                "expiry", (network,), lambda meshes: expire_clients(meshes[network], self.now())
            )
        except (StoreUnavailable, StoreUnusable) as error:
            self._unstored.tell(network=network, reason=error.message, hint=error.hint)
            return
        finally:
            self._expiry_waits = self.clock.monotonic() + _EXPIRY_SECONDS
        self._expiry_waits = -inf
        self._unstored.end()
        for client in stored:
            log_event("extclient-expired", network=network, extclient=cast(ExtClient, client).name)

    def save_presence(self) -> None:
        """Write down who was heard of since the last time, and forget who is no node any more."""
        remembered = self.presence.identities()
        with self.lock:
            nodes = {identity for mesh in self.meshes.values() for identity in mesh.nodes}
        self.presence.forget(remembered - nodes)
        seen = self.presence.take_unsaved()
        try:
            self._store.save_presence(seen)
        except NmkError:
            self.presence.put_back(seen)
            raise

    def hear_others(self) -> None:
        """Take in who was heard of at the other controllers of the database."""
        self.presence.learn(self._store.presence())

    def forget_changes(self) -> None:
        """Drop log entries that are older than `KEPT_CHANGES`."""
        self._store.forget_changes(self.now() - KEPT_CHANGES)

    def _goes_on(self, mesh: Mesh, head: Point) -> bool:
        """Whether the database goes on from where the memory is; one put back in time does not."""
        stored = self._store.commit_id(mesh.name, mesh.revision)
        return head.revision > mesh.revision and stored in {None, mesh.commit_id}

    def _commits(self, actor: str, bases: dict[str, int], stored: list[Record]) -> list[Commit]:
        commits = []
        for network, base in bases.items():
            mesh = self.meshes[network]
            pairs = [(mesh.find(r), r) for r in stored if _network(r) == network]
            what = describe_change(pairs)
            commits.append(Commit(network, base + 1, secrets.token_hex(8), self.now(), actor, what))
        return commits


def _network(record: Record) -> str:
    return record.name if isinstance(record, Network) else record.network
