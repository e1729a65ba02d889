"""One network in memory: its records and the indexes that every decision reads.

A `Mesh` is changed only by `apply`, with records that a commit has stored. Views are cut from it
without a look at the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from math import inf
from operator import itemgetter

from nmk.core.entries import Entries
from nmk.core.pool import Pool
from nmk.core.records import AccessKey, ExtClient, Network, Node, Record, node_id
from nmk.core.room import (
    MOST_EACH,
    MOST_EACH_BYTES,
    MOST_LAN,
    MOST_LAN_BYTES,
    beyond_share,
    dump,
    encode_entry,
    with_lan,
    within_share,
)
from nmk.core.settings import effective
from nmk.errors import Stale

KEPT_COMMITS = 10_000  # an agent further behind than this gets a full view


class Mesh:
    """The live state of one network; `revision` and `commit_id` name the change it is at."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.network: Network | None = None
        self.revision = 0
        self.commits: dict[int, str] = {}
        self.keys: dict[str, AccessKey] = {}
        self.nodes: dict[str, Node] = {}
        self.deleted: dict[str, Node] = {}
        self.by_name: dict[str, Node] = {}
        self.by_wg_key: dict[str, Node] = {}
        self.gateways: dict[str, Node] = {}
        self.clients: dict[str, ExtClient] = {}
        self.client_by_name: dict[str, ExtClient] = {}
        self.client_by_key: dict[str, ExtClient] = {}
        self.routers: dict[str, ExtClient] = {}
        self.pools: dict[int, Pool] = {}
        self.settings: dict[str, int] = effective({})
        self.entries = Entries()
        self.client_entries = Entries()
        self._expiring: dict[str, int] = {}
        self._gone: dict[str, int] = {}
        self._beyond: dict[str, tuple[int, str, int, int]] = {}
        self._beyond_bytes = self._beyond_lan = 0  # of all that need something beyond their share
        self.curtailed: frozenset[str] = frozenset()
        """Nodes, by identity, of whose LAN addresses there is no room for all."""

    @property
    def commit_id(self) -> str:
        """The id of the commit that made the current revision."""
        return self.commits.get(self.revision, "")

    @property
    def next_expiry(self) -> float:
        """When the next ext client expires, in seconds since 1970."""
        return min(self._expiring.values(), default=inf)

    def apply(
        self,
        revision: int,
        commit_id: str,
        at: int,
        records: Iterable[Record],
        *,
        several: bool = False,
    ) -> None:
        """Take in one commit, made at the time `at`: its records as stored.

        Or of `several` commits at once, each record as the last of them left it. All that it
        replaces is forgotten first: names, keys and addresses may have changed hands.
        """
        # The network first, as addresses lie in its ranges.
        records = sorted(records, key=lambda r: (not isinstance(r, Network), r.revision))
        needs = {r.identity: self._beyond.get(r.identity) for r in records if isinstance(r, Node)}
        crowded = several and not self._has_room(len(needs))
        for record in records:
            match record:
                case Node():
                    self._forget(record.identity, at)
                case ExtClient():
                    self._forget_client(record.id, at)
        for record in records:
            match record:
                case Network():
                    self._put_network(record)
                case AccessKey():
                    self.keys[record.id] = record
                case Node():
                    self._put_node(record, anew=several)
                case ExtClient():
                    self._put_client(record, anew=several)
        self._deal_out(revision, needs, anew=crowded)
        self.revision = revision
        self.commits[revision] = commit_id
        while len(self.commits) > KEPT_COMMITS:
            self.commits.pop(next(iter(self.commits)))

    def tried(self, records: Iterable[Record]) -> Mesh:
        """The network as it would be with these records; to be looked at, not to be changed."""
        would_be = copy(self)
        for name, held in vars(self).items():
            if isinstance(held, dict):
                setattr(would_be, name, dict(held))
        would_be.pools = {}  # what is free and what is told are not looked at
        would_be.entries, would_be.client_entries = Entries(), Entries()
        would_be.apply(self.revision, self.commit_id, 0, records)
        return would_be

    def find(self, record: Record) -> Record | None:
        """The record that this one would replace."""
        match record:
            case Network():
                return self.network
            case AccessKey():
                return self.keys.get(record.id)
            case Node():
                return self.nodes.get(record.identity) or self.deleted.get(record.identity)
            case ExtClient():
                return self.clients.get(record.id)

    def gone_since(self, revision: int) -> list[str]:
        """Ids of nodes and ext clients that nobody shall know any more since a revision."""
        newer = []
        for gone, at in reversed(self._gone.items()):
            if at <= revision:
                break
            newer.append(gone)
        return newer

    def _put_network(self, network: Network) -> None:
        fresh = self.network is None or (self.network.cidr4, self.network.cidr6) != (
            network.cidr4,
            network.cidr6,
        )
        self.network = network
        self.settings = effective(network.settings)
        if fresh:
            cidrs = {4: network.cidr4, 6: network.cidr6}
            self.pools = {family: Pool(cidr) for family, cidr in cidrs.items() if cidr}

    def _forget(self, identity: str, at: int) -> None:
        before = self.nodes.pop(identity, None)
        if before:
            del self.by_name[before.name]
            del self.by_wg_key[before.facts.wg_key]
            self.gateways.pop(identity, None)
            *_, size, lan = self._beyond.pop(identity, (0, "", 0, 0))
            self._beyond_bytes -= size
            self._beyond_lan -= lan
            self._free(before, at)

    def _put_node(self, node: Node, *, anew: bool) -> None:
        if node.deleted_at is not None:
            self._free(node, node.deleted_at)
            self.deleted[node.identity] = node
            self.entries.remove(node.id)
            self._gone[node.id] = node.revision
            return
        self.nodes[node.identity] = node
        self.by_name[node.name] = node
        self.by_wg_key[node.facts.wg_key] = node
        if node.gateway.roles:
            self.gateways[node.identity] = node
        for address, pool in self._homes(node):
            pool.take(address)
        size, lan = beyond_share(node)
        if lan:
            self._beyond[node.identity] = (node.created_at, node.id, size, lan)
            self._beyond_bytes += size
            self._beyond_lan += lan
        self.entries.put(node.id, node.revision, encode_entry(self.told(node)), anew=anew)

    def told(self, node: Node) -> Node:
        """A node as its peers are told of it: with no more LAN addresses than they take in."""
        return with_lan(node, within_share(node)) if node.identity in self.curtailed else node

    def _deal_out(
        self, revision: int, before: Mapping[str, tuple[int, str, int, int] | None], *, anew: bool
    ) -> None:
        """Say who is left out, and tell of whom that changes; `anew`, of all whom it may have.

        The nodes alone decide, the oldest first, so that every controller says the same of a
        revision, whatever it saw before. `before`: what those that the commit touched needed.
        """
        same = all(self._beyond.get(who) == needed for who, needed in before.items())
        if same and not (before and anew):
            return
        left_out = self._left_out()
        differ = self._beyond.keys() if anew else (left_out ^ self.curtailed) & self.nodes.keys()
        self.curtailed = left_out
        for node in [self.nodes[identity] for identity in differ]:
            self.entries.put(node.id, revision, encode_entry(self.told(node)), anew=anew)

    def _left_out(self) -> frozenset[str]:
        if self._has_room():
            return frozenset()
        size = lan = 0
        left_out = []
        self._beyond = dict(sorted(self._beyond.items(), key=itemgetter(1)))  # soon sorted again
        for identity, needs in self._beyond.items():
            *_, more, count = needs
            if size + more <= MOST_LAN_BYTES and lan + count <= MOST_LAN:
                size, lan = size + more, lan + count
            else:
                left_out.append(identity)
        return frozenset(left_out)

    def _has_room(self, unknown: int = 0) -> bool:
        """Whether nobody is left out, even if `unknown` nodes more say all that they may."""
        size = self._beyond_bytes + unknown * MOST_EACH_BYTES
        return size <= MOST_LAN_BYTES and self._beyond_lan + unknown * MOST_EACH <= MOST_LAN

    def _forget_client(self, client_id: str, at: int) -> None:
        before = self.clients.pop(client_id, None)
        if before:
            del self.client_by_name[before.name]
            del self.client_by_key[before.public_key]
            self.routers.pop(client_id, None)
            self._expiring.pop(client_id, None)
            self._free(before, at)

    def _put_client(self, client: ExtClient, *, anew: bool) -> None:
        if client.deleted_at is not None or client.state != "enabled":
            self.client_entries.remove(client.id)
            self._gone.pop(client.id, None)  # so that it stands in the order of revisions
            self._gone[client.id] = client.revision
        if client.deleted_at is not None:
            self._free(client, client.deleted_at)
            return
        self.clients[client.id] = client
        self.client_by_name[client.name] = client
        self.client_by_key[client.public_key] = client
        if client.routes:
            self.routers[client.id] = client
        for address, pool in self._homes(client):
            pool.take(address)
        if client.state == "enabled":
            self._gone.pop(client.id, None)
            entry = encode_client_entry(client)
            self.client_entries.put(client.id, client.revision, entry, anew=anew)
            if client.expires_at is not None:
                self._expiring[client.id] = client.expires_at

    def _free(self, record: Node | ExtClient, at: int) -> None:
        for address, pool in self._homes(record):
            pool.free(address, at)

    def _homes(self, record: Node | ExtClient) -> list[tuple[str, Pool]]:
        pairs = ((record.address4, self.pools.get(4)), (record.address6, self.pools.get(6)))
        return [(address, pool) for address, pool in pairs if address and pool]


def encode_client_entry(client: ExtClient) -> bytes:
    """An ext client as all nodes see it, its gateway too: one JSON object."""
    entry: dict[str, object] = {
        "id": client.id,
        "name": client.name,
        "key": client.public_key,
        "addresses": client.addresses,
        "via": node_id(client.gateway),
    }
    if client.routes:
        entry["ranges"] = client.routes
    return dump(entry)


def check_fresh(current: int, seen: int | None, what: str) -> None:
    """Raises Stale where a change was made on another revision than the current one."""
    if seen is not None and seen != current:
        raise Stale(f"{what} is at revision {current}, the change was made on revision {seen}")
